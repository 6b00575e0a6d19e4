//! OpenAI's chat completions, as many servers speak them: what is sent, and where the answer stands.
//!
//! This file must not know when a question is asked again.

use mayfly_http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{LlmError, secret_header};
use crate::config::LlmConfig;
use crate::prompt::Prompt;

/// The call, after the version.
pub(super) const PATH: &str = "chat/completions";

pub(super) fn headers(credential: Option<&str>) -> Result<HeaderMap, LlmError> {
    let mut headers = HeaderMap::new();
    if let Some(credential) = credential {
        secret_header(
            &mut headers,
            header::AUTHORIZATION,
            &format!("Bearer {credential}"),
        )?;
    }
    Ok(headers)
}

pub(super) fn body(config: &LlmConfig, prompt: &Prompt) -> Value {
    json!({
        "model": config.model,
        "max_tokens": config.max_output_tokens,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": prompt.user},
        ],
    })
}

/// The text of the first choice, without the thoughts that some local models put before it.
pub(super) fn answer(json: &Value) -> Result<String, LlmError> {
    let choice = &json["choices"][0];
    let text = choice["message"]["content"]
        .as_str()
        .ok_or(LlmError::Unreadable)?;
    if choice["finish_reason"] == "length" {
        return Err(LlmError::Truncated);
    }
    Ok(without_thoughts(text).to_owned())
}

fn without_thoughts(text: &str) -> &str {
    let thoughts = text
        .trim_start()
        .strip_prefix("<think>")
        .and_then(|rest| rest.split_once("</think>"));
    thoughts.map_or(text, |(_, answer)| answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let read = |text: &str, end: &str| {
            answer(&json!({"choices": [{"message": {"content": text}, "finish_reason": end}]})).ok()
        };
        assert_eq!(read("a", "stop").as_deref(), Some("a"));
        assert_eq!(
            read("<think>\nhm\n</think>\n\na", "stop").as_deref(),
            Some("\n\na")
        );
        assert_eq!(read("a", "length"), None);
        assert!(answer(&json!({"choices": []})).is_err());
        assert!(answer(&json!({"choices": [{"message": {"content": null}}]})).is_err());
        assert!(answer(&json!("text")).is_err());
    }

    #[test]
    fn servers_without_credentials_get_none() {
        assert!(headers(None).unwrap().is_empty());
        assert_eq!(headers(Some("k")).unwrap()["authorization"], "Bearer k");
    }
}
