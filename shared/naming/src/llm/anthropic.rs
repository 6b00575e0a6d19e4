//! Anthropic's Messages API, version 2023-06-01: what is sent, and where the answer stands.
//!
//! This file must not know when a question is asked again.

use mayfly_http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use super::{LlmError, secret_header};
use crate::config::LlmConfig;
use crate::prompt::Prompt;

/// The call, after the version.
pub(super) const PATH: &str = "messages";

/// How OAuth tokens begin. They go into `Authorization`, and the API takes them only under a beta's name.
const OAUTH_TOKEN: &str = "sk-ant-oat";

pub(super) fn headers(credential: &str) -> Result<HeaderMap, LlmError> {
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("anthropic-version"),
        HeaderValue::from_static("2023-06-01"),
    );
    if credential.starts_with(OAUTH_TOKEN) {
        secret_header(
            &mut headers,
            header::AUTHORIZATION,
            &format!("Bearer {credential}"),
        )?;
        headers.insert(
            HeaderName::from_static("anthropic-beta"),
            HeaderValue::from_static("oauth-2025-04-20"),
        );
    } else {
        secret_header(&mut headers, HeaderName::from_static("x-api-key"), credential)?;
    }
    Ok(headers)
}

pub(super) fn body(config: &LlmConfig, prompt: &Prompt) -> Value {
    json!({
        "model": config.model,
        "max_tokens": config.max_output_tokens,
        "system": prompt.system,
        "messages": [{"role": "user", "content": prompt.user}],
    })
}

/// The text blocks of the answer, joined; other kinds of block are not for us.
pub(super) fn answer(json: &Value) -> Result<String, LlmError> {
    let blocks = json["content"].as_array().ok_or(LlmError::Unreadable)?;
    if json["stop_reason"] == "max_tokens" {
        return Err(LlmError::Truncated);
    }
    let texts = blocks
        .iter()
        .filter(|block| block["type"] == "text")
        .filter_map(|block| block["text"].as_str());
    Ok(texts.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_credential_has_its_header() {
        let key = headers("sk-ant-api03-x").unwrap();
        assert_eq!(key["x-api-key"], "sk-ant-api03-x");
        assert!(key["x-api-key"].is_sensitive() && !key.contains_key("authorization"));
        let token = headers("sk-ant-oat01-x").unwrap();
        assert_eq!(token["authorization"], "Bearer sk-ant-oat01-x");
        assert!(token["authorization"].is_sensitive() && !token.contains_key("x-api-key"));
        assert!(matches!(headers("a\nb"), Err(LlmError::BadCredential)));
    }

    #[test]
    fn answers_are_read() {
        let read = |json: Value| answer(&json).ok();
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(
            read(json!({"content": [{"type": "thinking", "thinking": "x"}, text("a"), text("b")]}))
                .as_deref(),
            Some("ab")
        );
        assert_eq!(read(json!({"content": []})).as_deref(), Some(""));
        assert_eq!(read(json!({"content": "a"})), None);
        assert_eq!(
            read(json!({"content": [text("a")], "stop_reason": "max_tokens"})),
            None
        );
        assert_eq!(read(json!([1])), None);
    }
}
