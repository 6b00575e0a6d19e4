//! What an LLM counted of the questions that it answered, for figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

/// The questions that were answered, and their tokens as the LLM's server counts them. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct LlmUsage(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
}

impl LlmUsage {
    /// Questions that were answered, whatever the answer was good for.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Tokens of the questions.
    pub fn input_tokens(&self) -> u64 {
        self.0.input.load(Ordering::Relaxed)
    }

    /// Tokens of the answers.
    pub fn output_tokens(&self) -> u64 {
        self.0.output.load(Ordering::Relaxed)
    }

    /// Counts an answer of either provider. A server that counts nothing, or nonsense, adds only to the answers.
    pub(crate) fn count(&self, answer: &Value) {
        let usage = &answer["usage"];
        let figure = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| usage[name].as_u64());
            found.filter(|tokens| *tokens <= MOST).unwrap_or(0)
        };
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let input = figure(["input_tokens", "prompt_tokens"]);
        let output = figure(["output_tokens", "completion_tokens"]);
        self.0.input.fetch_add(input, Ordering::Relaxed);
        self.0.output.fetch_add(output, Ordering::Relaxed);
    }
}

/// More tokens in one answer are nonsense.
const MOST: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_providers_words_are_understood_and_nonsense_is_not_counted() {
        let usage = LlmUsage::default();
        for answer in [
            json!({"usage": {"input_tokens": 10, "output_tokens": 3}}),
            json!({"usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}}),
            json!({"usage": {"input_tokens": -1, "output_tokens": "many"}}),
            json!({"usage": {"input_tokens": u64::MAX}}),
            json!({"usage": null}),
            json!([]),
        ] {
            usage.count(&answer);
        }
        assert_eq!(
            (usage.requests(), usage.input_tokens(), usage.output_tokens()),
            (6, 15, 4)
        );
    }
}
