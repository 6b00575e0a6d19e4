//! How nginx and HAProxy are told to spread one-job workers, as somebody would who knows both the programs and the workers.
//!
//! Both know that a worker takes one job at a time, both send a refused job on, and neither writes a log unless tries are counted.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::side::Setup;

/// The file to which the tries of jobs are written.
pub(super) const TRIES: &str = "tries";

/// HAProxy looks at no more workers than this.
const MAX_LOOKED_AT: usize = 1000;
/// Files that are not a client's or a worker's connection.
pub(super) const RESERVED_FILES: usize = 100;

/// nginx counts the jobs of each worker in memory that its processes share (`zone`, `max_conns=1`), so that it asks none that it knows to be busy. A worker
/// that refuses stays in the rotation (`max_fails=0`): the shortest pause is a second, and workers come back sooner. It has no queue.
pub(super) fn nginx(setup: &Setup<'_>, address: SocketAddr) -> String {
    let mut servers = String::new();
    for worker in setup.workers {
        let _fits = writeln!(servers, "    server {worker} max_conns=1 max_fails=0;");
    }
    let log = match setup.tells_tries {
        true => format!("access_log {TRIES} tries buffer=64k;"),
        false => "access_log off;".to_owned(),
    };
    let folder = setup.folder.display();
    let files = setup.open_files;
    let zone_kib = 256 + setup.workers.len() * 2;
    format!(
        "daemon off;
worker_processes auto;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 32768; multi_accept on; }}
http {{
  log_format tries '$upstream_addr';
  {log}
  client_body_temp_path {folder}/client_body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream workers {{
    zone workers {zone_kib}k;
    least_conn;
{servers}  }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://workers;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
      proxy_buffering off;
      proxy_connect_timeout 1s;
      proxy_read_timeout 1h;
      proxy_next_upstream error timeout http_429 non_idempotent;
      proxy_next_upstream_tries 0;
    }}
  }}
}}
"
    )
}

/// HAProxy has a queue for workers that have their job (`maxconn 1`), so that it meets few refusals; the 2.6 of Debian 12 cannot send on a 429. It leaves a worker
/// that refuses a connection alone until a look finds it again (`observe layer4`, `on-error mark-down`), every 100 ms where there are up to a hundred
/// workers, and not at all where there are more than a thousand.
pub(super) fn haproxy(setup: &Setup<'_>, address: SocketAddr) -> String {
    let mut servers = String::new();
    for (number, worker) in setup.workers.iter().enumerate() {
        let _fits = writeln!(servers, "  server w{number} {worker}");
    }
    // A thousand looks a second in all; each takes a socket.
    let count = setup.workers.len();
    let check = match count <= MAX_LOOKED_AT {
        true => {
            let look = count.max(100);
            format!(
                " check inter {look}ms fastinter {look}ms downinter {look}ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down"
            )
        }
        false => String::new(),
    };
    let files = usize::try_from(setup.open_files).unwrap_or(usize::MAX);
    let connections = files.saturating_sub(RESERVED_FILES + count.min(MAX_LOOKED_AT)) / 2;
    let log = match setup.tells_tries {
        true => "  log stdout format raw local0\n  log-format \"tries %rc\"\n",
        false => "",
    };
    format!(
        "global
  maxconn {connections}
defaults
  mode http
{log}  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout queue 60s
  timeout http-request 10s
  option http-server-close
  option redispatch 1
  retries 100
  retry-on conn-failure empty-response response-timeout 503
frontend clients
  bind {address} backlog 4096
  default_backend workers
backend workers
  balance leastconn
  default-server maxconn 1{check}
{servers}"
    )
}
