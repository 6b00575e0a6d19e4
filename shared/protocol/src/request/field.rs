//! Reading a body, and checking one field of it. No error repeats a value.

use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::InvalidRequest;
use crate::limits;

/// Reads JSON; serde's own words name the field and the place, and never the value of a secret.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidRequest> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        refused(error.inner(), Some(path))
    })?;
    json.end().map_err(|error| refused(&error, None))?;
    Ok(value)
}

fn refused(error: &serde_json::Error, path: Option<String>) -> InvalidRequest {
    let is_data = error.classify() == serde_json::error::Category::Data;
    let kind = if is_data {
        "does not fit the request"
    } else {
        "is not JSON"
    };
    let field = named_field(error).or(path.filter(|path| is_data && is_plain_path(path)));
    let reason = format!("{kind} (line {}, column {})", error.line(), error.column());
    InvalidRequest::new(field.unwrap_or_default(), reason)
}

/// Whether the place of an error may be shown: `depth`, `author.name`, `files[2].path`. The body as a whole is `.`.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
    path.len() <= 64 && path.starts_with(|c: char| c.is_ascii_alphabetic()) && path.chars().all(is_plain)
}

/// The field that serde names between backquotes, when it is one of a missing, unknown or doubled field.
fn named_field(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let rest = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))?;
    let name = rest.split('`').next()?;
    let is_plain = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_plain.then(|| name.to_owned())
}

/// Parses one field by the rules of its type.
pub(crate) fn parsed<T>(name: &str, text: &str) -> Result<T, InvalidRequest>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error: T::Err| InvalidRequest::new(name, error.to_string()))
}

pub(crate) fn optional<T>(name: &str, text: Option<&str>) -> Result<Option<T>, InvalidRequest>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.map(|text| parsed(name, text)).transpose()
}

/// Checks a credential: at most 16 KiB of printable ASCII, so that it fits one header line. An empty one counts as absent.
pub(crate) fn secret(
    name: &str,
    value: Option<SecretString>,
) -> Result<Option<SecretString>, InvalidRequest> {
    let Some(value) = value.filter(|value| !value.expose_secret().is_empty()) else {
        return Ok(None);
    };
    let text = value.expose_secret();
    if text.len() > limits::MAX_SECRET_BYTES {
        return Err(InvalidRequest::new(name, "is longer than 16 KiB"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err(InvalidRequest::new(
            name,
            "has characters that no HTTP header may carry",
        ));
    }
    Ok(Some(value))
}

pub(crate) fn text(name: &str, value: String, max_bytes: usize) -> Result<String, InvalidRequest> {
    if value.len() > max_bytes {
        return Err(InvalidRequest::new(
            name,
            format!("is longer than {max_bytes} bytes"),
        ));
    }
    if value.contains('\0') {
        return Err(InvalidRequest::new(name, "has a NUL character"));
    }
    Ok(value)
}

/// Checks what goes into the header of a commit, where `<`, `>` and line ends have a meaning.
pub(crate) fn identity(name: &str, value: String) -> Result<String, InvalidRequest> {
    let value = text(name, value, limits::MAX_IDENTITY_BYTES)?;
    if value.trim().is_empty() {
        return Err(InvalidRequest::new(name, "is empty"));
    }
    if value.chars().any(|c| c.is_control() || c == '<' || c == '>') {
        return Err(InvalidRequest::new(name, "has a control character, `<` or `>`"));
    }
    Ok(value)
}
