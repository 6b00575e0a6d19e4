// Reads a job's stream with the npm package `eventsource` and prints each event as one line of JSON:
// MODULES URL LAST_EVENT_ID ("" for the start).
import { createRequire } from 'node:module';

const [modules, url, last] = process.argv.slice(2);
const { EventSource } = createRequire(`${modules}/`)('eventsource');
const withLastId = (input, init) =>
  fetch(input, { ...init, headers: { ...init.headers, ...(last ? { 'Last-Event-ID': last } : {}) } });
const source = new EventSource(url, { fetch: withLastId });
source.onmessage = (message) => {
  console.log(message.data);
  if (JSON.parse(message.data).type !== 'progress') source.close();
};
source.onerror = (error) => {
  console.error(error.message ?? error);
  process.exit(1);
};
