//! Repositories and patches that are made to harm, as jobs in the containers' workers: each is refused, or does nothing but be kept.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::client::{Client, Seen};
use super::docker::Docker;
use super::peers::Peers;

/// Makes a bare repository with one commit of one entry, which git itself would refuse to make: name, mode, entry, content.
pub(super) const FORGE: &str = r#"export HOME=/srv GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
git init -q --bare -b main "/srv/git/$1.git" && cd "/srv/git/$1.git"
git config http.receivepack true
blob=$(printf %b "$4" | git hash-object -w --stdin)
tree=$({ printf '%s ' "$2"; printf '%b\0' "$3"; printf "$(printf %s "$blob" | sed 's/../\\x&/g')"; } | git hash-object -t tree --literally -w --stdin)
git update-ref refs/heads/main "$(git commit-tree -m Forged "$tree")""#;
/// The repository whose session the patches are for.
const LINKS: &str = "forged-link";
const ENVIRONMENT: &str = "/proc/self/environ";

/// One entry of a tree, and the code with which a clone of it ends; `completed` where it is only a file to us.
struct Forged {
    name: &'static str,
    mode: &'static str,
    entry: &'static str,
    content: &'static str,
    ends: &'static str,
}

const fn forged(
    name: &'static str,
    mode: &'static str,
    entry: &'static str,
    content: &'static str,
    ends: &'static str,
) -> Forged {
    Forged {
        name,
        mode,
        entry,
        content,
        ends,
    }
}

const COMPLETED: &str = "completed";
const UNSAFE: &str = "unsafe_tree";
const REFUSED: &str = "path_refused";
const REPOSITORIES: &[Forged] = &[
    forged("forged-up", "100644", "..", "x", UNSAFE),
    forged("forged-absolute", "100644", "/etc/passwd", "x", UNSAFE),
    forged("forged-separator", "100644", "a\\\\b", "x", UNSAFE),
    forged("forged-gitdir", "100644", ".git", "gitdir: /etc\\n", UNSAFE),
    forged("forged-case", "100644", ".GiT", "x", UNSAFE),
    forged("forged-short", "100644", "git~1", "x", UNSAFE),
    forged(
        "forged-module-link",
        "120000",
        ".gitmodules",
        "/etc/passwd",
        UNSAFE,
    ),
    forged("forged-device", "20666", "null", "x", UNSAFE),
    forged(LINKS, "120000", "link", "/etc", COMPLETED),
    forged(
        "forged-hook",
        "100755",
        "post-checkout",
        "#!/bin/sh\\nid\\n",
        COMPLETED,
    ),
    forged(
        "forged-filter",
        "100644",
        ".gitattributes",
        "* filter=x diff=x merge=x\\n",
        COMPLETED,
    ),
    forged(
        "forged-module",
        "100644",
        ".gitmodules",
        "[submodule \"x\"]\\n\\tpath = x\\n\\turl = -u./x\\n\\tupdate = !id\\n",
        COMPLETED,
    ),
];

/// New files at these places, each with the code of its refusal.
const PATCHES: &[(&str, &str)] = &[
    ("../../outside", REFUSED),
    ("/etc/passwd", REFUSED),
    ("link/passwd", REFUSED),
    (".git/config", REFUSED),
    (".GIT/hooks/post-checkout", REFUSED),
    ("a/../../b", REFUSED),
];

/// Says what was not as it has to be, and how many were tried.
pub(super) fn tried(client: &Client, docker: &Docker, peers: &Peers) -> anyhow::Result<(Vec<String>, usize)> {
    let mut faults = Vec::new();
    let mut hold = |what: &str, wanted: &str, seen: &Seen| {
        let ended = seen
            .data
            .as_ref()
            .map_or(seen.code.as_deref().unwrap_or("nothing"), |_| COMPLETED);
        if ended != wanted {
            faults.push(format!("hostile: {what} ended as {ended}, and not as {wanted}"));
        }
    };
    for it in REPOSITORIES {
        peers.forge(docker, &[it.name, it.mode, it.entry, it.content])?;
        let body =
            json!({"sessionId": it.name, "repoUrl": peers.url_of(it.name), "accessToken": peers.token});
        hold(
            it.name,
            it.ends,
            &posted(client, "/clone-repository", &body, it.name),
        );
    }
    for (path, wanted) in PATCHES {
        let patch = format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
        );
        let body = json!({"sessionId": LINKS, "patch": patch});
        hold(
            path,
            wanted,
            &posted(client, "/apply-changes", &body, &format!("patch-{path}")),
        );
    }
    let files = json!([{"path": "environment", "content": ENVIRONMENT, "mode": "120000"}]);
    let body = json!({"sessionId": LINKS, "files": files});
    hold(
        "a link to the environment",
        COMPLETED,
        &posted(client, "/apply-changes", &body, "link"),
    );
    let body = json!({"sessionId": LINKS, "githubAccessToken": peers.token, "message": "Link"});
    hold(
        "its commit",
        COMPLETED,
        &posted(client, "/commit-and-push", &body, "commit"),
    );
    let pushed = peers.file(docker, LINKS, "main:environment")?;
    let shown = client.text(&format!("/sessions/{LINKS}/files/environment"));
    for text in [pushed, shown.context("the gateway shows no link")?] {
        if text != ENVIRONMENT {
            faults.push(format!("hostile: a link was followed: {} bytes", text.len()));
        }
    }
    Ok((faults, REPOSITORIES.len() + PATCHES.len() + 1))
}

fn posted(client: &Client, path: &str, body: &Value, key: &str) -> Seen {
    client.job(path, body, &format!("hostile-{key}"))
}
