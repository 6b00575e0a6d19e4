//! A stream as text that is the same in every run: ids, times, object ids, ports and counts become placeholders.

use serde_json::Value;

use super::Numbered;

/// Writes one event a line, as `<number> <json>` with sorted keys.
///
/// `[sha 1]` is the first object id that appears, wherever it appears again. Counts of progress become `[n]`.
pub fn transcript(events: &[Numbered]) -> String {
    let mut seen = Seen::default();
    let mut text = String::new();
    for (number, event) in events {
        let mut value = serde_json::to_value(event).expect("an event is JSON");
        value["timestamp"] = "[time]".into();
        value["jobId"] = "[job]".into();
        if let Some(progress) = value.get_mut("progress").and_then(Value::as_object_mut) {
            let counts = progress.values_mut().filter(|count| count.is_number());
            counts.for_each(|count| *count = "[n]".into());
        }
        seen.replace_in(&mut value);
        text.push_str(&format!("{number} {value}\n"));
    }
    text
}

#[derive(Default)]
struct Seen {
    shas: Vec<String>,
}

impl Seen {
    fn replace_in(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.replace(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace_in(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.replace_in(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Replaces word by word; a word is a run of letters, digits and hyphens.
    fn replace(&mut self, text: &str) -> String {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let mut replaced = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            replaced.push_str(&self.placeholder(word, &replaced));
            rest = after;
        }
        replaced
    }

    fn placeholder(&mut self, word: &str, before: &str) -> String {
        let all = |allowed: fn(u8) -> bool| word.bytes().all(allowed);
        if word.len() == 40 && all(|byte| byte.is_ascii_hexdigit()) {
            return format!("[sha {}]", self.number_of(word));
        }
        if word.len() == 36 && uuid::Uuid::try_parse(word).is_ok() {
            return "[uuid]".to_owned();
        }
        let after_host = before.ends_with("127.0.0.1:") || before.ends_with("localhost:");
        if after_host && all(|byte| byte.is_ascii_digit()) {
            return "[port]".to_owned();
        }
        word.to_owned()
    }

    fn number_of(&mut self, sha: &str) -> usize {
        let known = self.shas.iter().position(|seen| seen == sha);
        let index = known.unwrap_or_else(|| {
            self.shas.push(sha.to_owned());
            self.shas.len() - 1
        });
        index + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> Numbered {
        let rest = r#""source":"git-worker","timestamp":"2026-01-02T03:04:05.678Z","jobId":"01890000-0000-7000-8000-000000000000""#;
        (1, serde_json::from_str(&format!("{{{json},{rest}}}")).unwrap())
    }

    #[test]
    fn what_changes_from_run_to_run_becomes_a_placeholder() {
        let (a, b) = ("a".repeat(40), "b1".repeat(20));
        let events = [
            event(
                r#""type":"progress","stage":"cloning","message":"http://127.0.0.1:40123/a.git","progress":{"done":7,"unit":"bytes"}"#,
            ),
            event(&format!(
                r#""type":"completed","data":{{"x":["{b}","{a}","{b}."],"y":"{a}b","id":"s-01890000-0000-7000-8000-000000000000","n":5}}"#
            )),
        ];
        assert_eq!(
            transcript(&events).lines().collect::<Vec<_>>(),
            [
                r#"1 {"jobId":"[job]","message":"http://127.0.0.1:[port]/a.git","progress":{"done":"[n]","unit":"bytes"},"source":"git-worker","stage":"cloning","timestamp":"[time]","type":"progress"}"#,
                &format!(
                    r#"1 {{"data":{{"id":"s-01890000-0000-7000-8000-000000000000","n":5,"x":["[sha 1]","[sha 2]","[sha 1]."],"y":"{a}b"}},"jobId":"[job]","source":"git-worker","timestamp":"[time]","type":"completed"}}"#
                ),
            ]
        );
    }
}
