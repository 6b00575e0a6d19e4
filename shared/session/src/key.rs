//! Where things lie in the object storage. Every key begins with the tenant, so that tenants share nothing.

use mayfly_protocol::lfs::LfsId;
use mayfly_protocol::{RepoUrl, SessionId, TenantId};
use mayfly_storage::{InvalidKey, Key};
use sha2::{Digest, Sha256};

use crate::lfs::LfsWeek;
use crate::manifest::{Manifest, PackEntry, PackScope};
use crate::pack_name::PackName;

/// `tenants/<tenant>/sessions/<session>/manifest.json`
pub(crate) fn manifest(tenant: &TenantId, session: &SessionId) -> Result<Key, InvalidKey> {
    format!("tenants/{tenant}/sessions/{session}/manifest.json").parse()
}

/// `tenants/<tenant>/repositories/<repository>/known.json`
pub(crate) fn known_repository(tenant: &TenantId, url: &RepoUrl) -> Result<Key, InvalidKey> {
    format!("tenants/{tenant}/repositories/{}/known.json", repository_key(url)).parse()
}

/// `tenants/<tenant>/sessions/<session>/pins/<when the session was made, in Unix milliseconds>.json`
///
/// A session that is made anew under the id of a former one has another key, so that a pin never outlives what it was given to.
pub(crate) fn pin(tenant: &TenantId, manifest: &Manifest) -> Result<Key, InvalidKey> {
    let millis = manifest.created_at.unix_timestamp_nanos() / 1_000_000;
    let folder = session_folder(tenant, &manifest.session_id);
    format!("{folder}pins/{millis}.json").parse()
}

/// What the keys of all objects begin with.
pub(crate) const TENANTS: &str = "tenants/";

/// What the keys of all objects of a session begin with.
pub(crate) fn session_folder(tenant: &TenantId, session: &SessionId) -> String {
    format!("tenants/{tenant}/sessions/{session}/")
}

/// What the keys of all that came from remotes begin with.
pub(crate) fn repositories(tenant: &TenantId) -> String {
    format!("tenants/{tenant}/repositories/")
}

/// What the keys of all outcomes of a tenant's jobs begin with.
pub(crate) fn jobs(tenant: &TenantId) -> String {
    format!("tenants/{tenant}/jobs/")
}

/// What the keys of all idempotency keys of a tenant begin with.
pub(crate) fn idempotency(tenant: &TenantId) -> String {
    format!("tenants/{tenant}/idempotency/")
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

/// The two objects of a pack: its data and its index.
#[derive(Debug)]
pub(crate) struct PackKeys {
    pub(crate) pack: Key,
    pub(crate) index: Key,
}

/// `…/repositories/<repository>/packs/<pack>.pack` for what came from the remote, `…/sessions/<session>/packs/…` for what a job made.
pub(crate) fn pack(
    tenant: &TenantId,
    manifest: &Manifest,
    entry: &PackEntry,
) -> Result<PackKeys, InvalidKey> {
    named_pack(tenant, manifest, entry.scope, &entry.name)
}

/// The keys of a pack of this name.
pub(crate) fn named_pack(
    tenant: &TenantId,
    manifest: &Manifest,
    scope: PackScope,
    name: &PackName,
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

/// `…/sessions/<session>/packs/<pack>.replaced`: written when the pack is about to be listed no more, so that its removal waits from then on.
pub(crate) fn replaced(tenant: &TenantId, session: &SessionId, name: &PackName) -> Result<Key, InvalidKey> {
    format!("{}packs/{name}.replaced", session_folder(tenant, session)).parse()
}

/// The name of a pack's two objects, without their endings.
pub(crate) fn pack_name(entry: &PackEntry) -> String {
    entry.name.to_string()
}

/// `…/repositories/<repository>/lfs/<week>/contents/<sha256>`: what Git LFS keeps.
pub(crate) fn lfs_content(
    tenant: &TenantId,
    manifest: &Manifest,
    week: LfsWeek,
    id: &LfsId,
) -> Result<Key, InvalidKey> {
    lfs_content_in(&lfs_folder(tenant, manifest), week, id)
}

/// `…/repositories/<repository>/lfs/<week>/lists/<sha256>.json`: which contents a session has.
pub(crate) fn lfs_list(
    tenant: &TenantId,
    manifest: &Manifest,
    week: LfsWeek,
    hash: &LfsId,
) -> Result<Key, InvalidKey> {
    lfs_list_in(&lfs_folder(tenant, manifest), week, hash)
}

fn lfs_folder(tenant: &TenantId, manifest: &Manifest) -> String {
    format!("{}{}/", repositories(tenant), repository_key(&manifest.repo_url))
}

/// The key of a content of the repository with this folder, which ends with `/`.
pub(crate) fn lfs_content_in(folder: &str, week: LfsWeek, id: &LfsId) -> Result<Key, InvalidKey> {
    format!("{folder}lfs/{week}/contents/{id}").parse()
}

/// The key of a list of the repository with this folder, which ends with `/`.
pub(crate) fn lfs_list_in(folder: &str, week: LfsWeek, hash: &LfsId) -> Result<Key, InvalidKey> {
    format!("{folder}lfs/{week}/lists/{hash}.json").parse()
}

/// The first 32 hexadecimal digits of the SHA-256 of what all spellings of the repository's address share.
pub(crate) fn repository_key(url: &RepoUrl) -> String {
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
