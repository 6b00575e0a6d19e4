//! Where things lie in the object storage. Every key begins with the tenant, so that tenants share nothing.

use mayfly_protocol::{RepoUrl, SessionId, TenantId};
use mayfly_storage::{InvalidKey, Key};
use sha2::{Digest, Sha256};

use crate::manifest::{Manifest, PackEntry, PackScope};

/// `tenants/<tenant>/sessions/<session>/manifest.json`
pub(crate) fn manifest(tenant: &TenantId, session: &SessionId) -> Result<Key, InvalidKey> {
    format!("tenants/{tenant}/sessions/{session}/manifest.json").parse()
}

/// `tenants/<tenant>/repositories/<repository>/known.json`
pub(crate) fn known_repository(tenant: &TenantId, url: &RepoUrl) -> Result<Key, InvalidKey> {
    format!("tenants/{tenant}/repositories/{}/known.json", repository_key(url)).parse()
}

/// What the keys of all manifests of a tenant begin with.
pub(crate) fn sessions(tenant: &TenantId) -> String {
    format!("tenants/{tenant}/sessions/")
}

/// The session whose keys lie in this folder; `None` where it is the folder of something else.
pub(crate) fn session_of_folder(tenant: &TenantId, folder: &str) -> Option<SessionId> {
    let rest = folder.strip_prefix(&sessions(tenant))?;
    rest.strip_suffix('/')?.parse().ok()
}

/// What the keys of a session's own packs begin with.
pub(crate) fn session_packs(tenant: &TenantId, session: &SessionId) -> String {
    format!("tenants/{tenant}/sessions/{session}/packs/")
}

/// The two objects of a pack: its data and its index.
#[derive(Debug)]
pub(crate) struct PackKeys {
    pub(crate) pack: Key,
    pub(crate) index: Key,
}

/// `…/repositories/<repository>/packs/<name>.pack` for what came from the remote, `…/sessions/<session>/packs/…` for what a job made; the name
/// is the pack's checksum where it was given no other.
pub(crate) fn pack(
    tenant: &TenantId,
    manifest: &Manifest,
    entry: &PackEntry,
) -> Result<PackKeys, InvalidKey> {
    match &entry.name {
        Some(name) => named_pack(tenant, manifest, entry.scope, name),
        None => named_pack(tenant, manifest, entry.scope, &entry.hash),
    }
}

/// The keys of a pack of this name.
pub(crate) fn named_pack(
    tenant: &TenantId,
    manifest: &Manifest,
    scope: PackScope,
    name: &dyn std::fmt::Display,
) -> Result<PackKeys, InvalidKey> {
    let owner = match scope {
        PackScope::Repository => format!("repositories/{}", repository_key(&manifest.repo_url)),
        PackScope::Session => format!("sessions/{}", manifest.session_id),
    };
    let stem = format!("tenants/{tenant}/{owner}/packs/{name}");
    Ok(PackKeys {
        pack: format!("{stem}.pack").parse()?,
        index: format!("{stem}.idx").parse()?,
    })
}

/// The first 32 hexadecimal digits of the SHA-256 of what all spellings of the repository's address share.
fn repository_key(url: &RepoUrl) -> String {
    let digest = Sha256::digest(url.identity().as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_has_one_key() {
        let key = |text: &str| repository_key(&text.parse().unwrap());
        assert_eq!(key("https://Host/o/r.git"), key("https://host/o/r/"));
        assert_ne!(key("https://host/o/r"), key("https://host/o/s"));
        assert_eq!(key("https://host/o/r").len(), 32);
    }
}
