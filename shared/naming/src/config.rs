//! Which LLM writes the names, and within which bounds.

use std::num::NonZeroU32;
use std::time::Duration;

use mayfly_protocol::SecretString;
use url::Url;

/// The protocol that an LLM's server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Anthropic's Messages API, version 2023-06-01.
    Anthropic,
    /// OpenAI's chat completions, which many other servers speak too.
    OpenAi,
}

impl Provider {
    /// The server of the company that made the protocol.
    pub const fn default_base_url(self) -> &'static str {
        match self {
            Self::Anthropic => "https://api.anthropic.com",
            Self::OpenAi => "https://api.openai.com",
        }
    }

    /// A small model of that company: names need no large one.
    pub const fn default_model(self) -> &'static str {
        match self {
            Self::Anthropic => "claude-haiku-4-5",
            Self::OpenAi => "gpt-4.1-mini",
        }
    }
}

/// An LLM and the bounds of one question to it.
#[derive(Debug, Clone)]
pub struct LlmConfig {
    /// The protocol.
    pub provider: Provider,
    /// Where the API begins; the version (`v1`) is added where it is missing.
    pub base_url: Url,
    /// The model's name, as the server knows it.
    pub model: String,
    /// The credential that is used where the caller brings none. Servers of one's own often need none.
    pub api_key: Option<SecretString>,
    /// The longest time for one question, retries and waiting included.
    pub timeout: Duration,
    /// The longest answer, in the model's tokens.
    pub max_output_tokens: u32,
    /// The longest answer, in bytes of its JSON.
    pub max_answer_bytes: usize,
    /// How often a question is asked in all, while the server says 429 or 5xx.
    pub max_attempts: NonZeroU32,
    /// The pause before the next attempt where the server names none with `Retry-After`.
    pub retry_delay: Duration,
    /// Bytes of changed files and diff in the question for a commit message.
    pub diff_budget_bytes: usize,
}

impl LlmConfig {
    /// An LLM with the default bounds: 20 seconds, 1024 tokens, 64 KiB, two attempts, a diff of 24 KiB.
    pub fn new(provider: Provider, base_url: Url, model: impl Into<String>) -> Self {
        Self {
            provider,
            base_url,
            model: model.into(),
            api_key: None,
            timeout: Duration::from_secs(20),
            max_output_tokens: 1024,
            max_answer_bytes: 64 * 1024,
            max_attempts: NonZeroU32::MIN.saturating_add(1),
            retry_delay: Duration::from_millis(500),
            diff_budget_bytes: 24 * 1024,
        }
    }

    /// The provider's own server and its small model.
    pub fn default_for(provider: Provider) -> Self {
        #[expect(clippy::expect_used, reason = "the text is a constant, and a test parses it")]
        let base_url = Url::parse(provider.default_base_url()).expect("a constant URL");
        Self::new(provider, base_url, provider.default_model())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_provider_has_defaults() {
        for provider in [Provider::Anthropic, Provider::OpenAi] {
            let config = LlmConfig::default_for(provider);
            assert_eq!(config.base_url.scheme(), "https");
            assert_eq!(config.max_attempts.get(), 2);
            assert!(!config.model.is_empty());
        }
    }
}
