//! Where a Redis is: `redis://[user]:password@host:port/database`, and `rediss://` over TLS.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use mayfly_protocol::{ExposeSecret as _, SecretString};
use percent_encoding::percent_decode_str;
use redis::RedisConnectionInfo;

const PORT: u16 = 6379;

/// Says why a text is no address of a Redis. The text itself is not repeated, since it has a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the address of Redis {0}; expected `redis://:password@host:port/0`, or `rediss://` for TLS")]
pub struct InvalidRedisUrl(&'static str);

/// The checked address of a Redis. Shown, it has no password.
#[derive(Debug, Clone)]
pub struct RedisUrl {
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    user: Option<String>,
    password: Option<SecretString>,
    database: i64,
}

impl RedisUrl {
    /// What is said at the beginning of a connection.
    pub(super) fn greeting(&self) -> RedisConnectionInfo {
        let mut info = RedisConnectionInfo::default()
            .set_db(self.database)
            .set_skip_set_lib_name();
        if let Some(user) = &self.user {
            info = info.set_username(user);
        }
        if let Some(password) = &self.password {
            info = info.set_password(password.expose_secret());
        }
        info
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}:{}/{}", self.host, self.port, self.database)
    }
}

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, InvalidRedisUrl> {
        let url = ::url::Url::parse(text).map_err(|_| InvalidRedisUrl("is not a URL"))?;
        let is_tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(InvalidRedisUrl("has another scheme")),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidRedisUrl("has a query or a fragment"));
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(Cow::into_owned)
                .map_err(|_| InvalidRedisUrl("has a user or a password that is not text"))
        };
        let user = decoded(url.username())?;
        let password = url.password().map(decoded).transpose()?;
        if !user.is_empty() && password.is_none() {
            return Err(InvalidRedisUrl("names a user without a password"));
        }
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number
                .parse::<u16>()
                .map_err(|_| InvalidRedisUrl("has a path that is no number of a database"))?,
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(InvalidRedisUrl("has no host"))?;
        Ok(Self {
            is_tls,
            // An address of IPv6 stands in brackets in a URL, and nowhere else.
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(PORT),
            user: Some(user).filter(|user| !user.is_empty()),
            password: password.map(SecretString::from),
            database: database.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_their_passwords() {
        for (text, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
            ("redis://:s3cr%2Fet@redis:7000/2", "redis://redis:7000/2"),
            (
                "rediss://mayfly:s3cret@redis.example.com/",
                "rediss://redis.example.com:6379/0",
            ),
            ("redis://:s3cret@[::1]:7000", "redis://::1:7000/0"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(
                !format!("{url:?} {:?}", url.greeting()).contains("s3cr"),
                "{url:?}"
            );
        }
        let url: RedisUrl = "redis://:s3cr%2Fet@redis".parse().unwrap();
        assert_eq!(url.password.unwrap().expose_secret(), "s3cr/et");
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for text in [
            "",
            "redis:6379",
            "http://:s3cret@redis",
            "redis://:s3cret@redis/x",
            "redis://:s3cret@redis/0?x=1",
            "redis://s3cret@redis",
            "redis+unix:///s3cret",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
