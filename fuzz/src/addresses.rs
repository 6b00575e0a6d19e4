//! Addresses, names and ids: what is taken is what it says in one spelling, and no spelling of an address leads where it may not.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use mayfly_gateway::{WorkerSource, WorkerUrl};
use mayfly_http::{HostPattern, Url, is_public};
use mayfly_protocol::path::check_path;
use mayfly_protocol::{BranchName, CallbackUrl, JobId, ObjectId, RepoPath, RepoUrl, SessionId, TenantId};
use mayfly_storage::{Key, StorageUrl};

use crate::Input;

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    check_addresses(input.take(16));
    let other = String::from_utf8_lossy(input.text()).into_owned();
    let Ok(text) = std::str::from_utf8(input.rest()) else {
        return;
    };
    check_spelling::<RepoUrl>(text);
    check_spelling::<SessionId>(text);
    check_spelling::<TenantId>(text);
    check_spelling::<JobId>(text);
    check_spelling::<ObjectId>(text);
    check_spelling::<Key>(text);
    check_spelling::<WorkerUrl>(text);
    check_spelling::<HostPattern>(text);
    check_branch(text);
    check_callback(text);
    check_pattern(other.trim_end(), text);
    let path = text.parse::<RepoPath>();
    assert!(path.is_err() || check_path(text.as_bytes()).is_ok());
    let (_storage, _workers) = (text.parse::<StorageUrl>(), text.parse::<WorkerSource>());
}

/// What is written is read as the same.
fn check_spelling<T: FromStr + Display>(text: &str) {
    let Ok(parsed) = text.parse::<T>() else { return };
    let written = parsed.to_string();
    let again = written.parse::<T>().ok().map(|it| it.to_string());
    assert_eq!(again.as_deref(), Some(written.as_str()), "from `{text}`");
    assert!(!written.contains(char::is_control), "from `{text}`");
}

fn check_branch(text: &str) {
    let Ok(name) = text.parse::<BranchName>() else {
        return;
    };
    assert_eq!(name.as_str(), text);
    assert_eq!(BranchName::from_ref(&name.to_ref()), Some(name));
    let is_odd =
        text.starts_with('-') || text.contains("..") || text.contains("@{") || text.ends_with(".lock");
    assert!(
        !is_odd && !text.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c)),
        "`{text}`"
    );
}

fn check_callback(text: &str) {
    let Ok(url) = text.parse::<CallbackUrl>() else {
        return;
    };
    let parsed = url.as_url();
    assert!(parsed.username().is_empty() && parsed.password().is_none() && parsed.host_str().is_some());
    let shown = format!("{url:?}");
    assert!(!shown.contains('?') && shown.matches('/').count() == 2, "{shown}");
}

/// A pattern fits hosts that end with it, and no other.
fn check_pattern(pattern: &str, url: &str) {
    let (Ok(parsed), Ok(url)) = (pattern.parse::<HostPattern>(), url.parse::<Url>()) else {
        return;
    };
    if parsed.matches(&url) {
        let host = url
            .host_str()
            .expect("what has no host fits no pattern")
            .trim_end_matches('.');
        let written = parsed.to_string();
        let name = written.trim_start_matches('*');
        let name = name
            .strip_suffix(&format!(":{}", url.port_or_known_default().unwrap_or(0)))
            .unwrap_or(name);
        assert!(host.ends_with(name), "`{host}` fits `{written}`");
    }
}

/// An IPv4 address is public in all its clothes or in none.
fn check_addresses(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<16>() else {
        return;
    };
    let v4 = Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
    let expected = is_public(IpAddr::V4(v4));
    let [a, b, c, d] = v4.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    for clothed in [
        v4.to_ipv6_mapped(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
    ] {
        assert_eq!(is_public(IpAddr::V6(clothed)), expected, "{clothed}");
    }
    let is_known_private = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast();
    assert!(
        !(expected && (is_known_private || v4.is_unspecified() || v4.is_multicast())),
        "{v4}"
    );
    let v6 = Ipv6Addr::from(*bytes);
    let is_private = v6.is_loopback() || v6.is_unspecified() || v6.is_multicast();
    let is_local = v6.is_unique_local() || v6.is_unicast_link_local();
    assert!(!(is_public(IpAddr::V6(v6)) && (is_private || is_local)), "{v6}");
}
