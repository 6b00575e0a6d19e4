//! Who made a commit and when, as git records it.
//!
//! This module must not know where names and times come from: it has no clock.

use std::fmt;

/// An author or committer with a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The name.
    pub name: String,
    /// The e-mail address.
    pub email: String,
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// Minutes that the local clock is ahead of UTC.
    pub offset_minutes: i32,
}

/// The name or the address has a character that would end it in a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {field} of a signature is empty or has a control character, `<` or `>`; leave that out")]
pub struct InvalidSignature {
    field: &'static str,
}

impl Signature {
    /// Checks that the signature reads back from a commit as it is.
    pub fn check(&self) -> Result<(), InvalidSignature> {
        for (field, text, may_be_empty) in
            [("name", &self.name, false), ("e-mail address", &self.email, true)]
        {
            let is_breaking = text.chars().any(|c| c.is_control() || matches!(c, '<' | '>'));
            if is_breaking || (text.trim().is_empty() && !may_be_empty) {
                return Err(InvalidSignature { field });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Signature {
    /// The form inside a commit object: `Name <address> 1700000000 +0100`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.offset_minutes < 0 { '-' } else { '+' };
        let minutes = self.offset_minutes.unsigned_abs();
        let (name, email) = (self.name.trim(), self.email.trim());
        write!(
            f,
            "{name} <{email}> {} {sign}{:02}{:02}",
            self.seconds,
            minutes / 60,
            minutes % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(name: &str, offset_minutes: i32) -> Signature {
        Signature {
            name: name.into(),
            email: "a@b.c".into(),
            seconds: 1_700_000_000,
            offset_minutes,
        }
    }

    #[test]
    fn the_form_inside_a_commit() {
        assert_eq!(signature("A B", 0).to_string(), "A B <a@b.c> 1700000000 +0000");
        assert_eq!(signature("A", -570).to_string(), "A <a@b.c> 1700000000 -0930");
        assert_eq!(signature("A", 345).to_string(), "A <a@b.c> 1700000000 +0545");
    }

    #[test]
    fn what_would_forge_a_header_is_refused() {
        for bad in ["", " ", "a\nauthor x", "a<b", "a>b", "a\0"] {
            assert!(signature(bad, 0).check().is_err(), "{bad:?}");
        }
        assert_eq!(signature("Ünï", 0).check(), Ok(()));
    }
}
