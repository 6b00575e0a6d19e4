#!/usr/bin/env bash
# Installs the programs that only the tests need: S3 servers (moto, ministack, Ceph's gateway, s3s-fs), Redis, an LLM server (aimock), a Git LFS
# server (giftless) and client, SSE clients that nobody here wrote, promtool, readers of OpenAPI documents and of
# traces, and the proxies that the gateway is measured against (nginx, HAProxy).
#
# Run by .ci/run before the tests, and by hand once: `.ci/tools.sh`. A second run finds everything in place and changes nothing.
# Everything goes under ${MAYFLY_TOOLS:-target/tools}: `py`, `ministack`, `lfs` and `openapi` are Python venvs, `node` holds `node_modules`, `s3s` a program
# that cargo builds, as is what is in `cargo-fuzz`. Only Ceph, Redis, nginx, HAProxy, and what is missing of python3, its venv module, git-lfs, node and npm,
# is installed by apt, and only as root.
set -euo pipefail

readonly MOTO='moto[server]==5.2.5'
readonly MINISTACK='ministack==1.5.33'
readonly S3S_FS='0.14.1'
readonly PROXIES=(nginx-light haproxy)
readonly CARGO_FUZZ='0.13.2'
readonly CEPH=(ceph-mon ceph-osd radosgw ceph-common)
readonly PYTHON_CLIENTS=('httpx==0.28.1' 'httpx-sse==0.4.3')
# giftless 0.6.2 names none of its dependencies.
readonly LFS_SERVER=('giftless==0.6.2' 'flask==3.1.3' 'flask-classful==0.16.0' 'flask-marshmallow==1.4.0' 'marshmallow==3.26.2'
    'marshmallow-enum==1.5.1' 'webargs==8.7.1' 'pyjwt==2.15.1' 'python-dateutil==2.9.0.post0' 'python-dotenv==1.2.4' 'pyyaml==6.0.3'
    'figcan==0.0.4' 'cachetools==8.0.1' 'requests==2.34.2' 'typing-extensions==4.16.0' 'importlib-metadata==10.2.0' 'setuptools==65.5.0')
# protobuf and opentelemetry-proto stand for a collector of traces.
readonly OPENAPI_TOOLS=('openapi-spec-validator==0.9.0' 'opentelemetry-proto==1.45.2')
readonly NODE_CLIENTS=('eventsource@4.1.1')
readonly NODE_SERVERS=('@copilotkit/aimock@1.43.0')
readonly NODE_PROGRAM='node@22'
readonly NODE_MAJOR_WANTED=20

cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools="${MAYFLY_TOOLS:-target/tools}"
mkdir -p "$tools"
tools="$(cd "$tools" && pwd)"

say() { printf 'tools: %s\n' "$*"; }

die() {
    printf 'tools: %s\n' "$*" >&2
    exit 1
}

# apt_install WHY PACKAGE...: installs Debian packages, or says what the reader has to install.
apt_install() {
    local why="$1"
    shift
    if [[ "$(id -u)" -ne 0 ]] || ! command -v apt-get >/dev/null; then
        die "$why is missing: install the packages $* and run this script again"
    fi
    say "$why is missing: installing $* by apt"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# up_to_date FOLDER WANTED: whether the folder was filled with exactly these packages.
up_to_date() {
    [[ -f "$1/.installed" && "$(cat "$1/.installed")" == "$2" ]]
}

install_python_tools() {
    local venv="$tools/py" wanted="$MOTO ${PYTHON_CLIENTS[*]}"
    if up_to_date "$venv" "$wanted" && [[ -x "$venv/bin/moto_server" ]]; then
        say "python: already there ($venv)"
        return
    fi
    command -v python3 >/dev/null || apt_install 'python3' python3 python3-venv
    python3 -c 'import ensurepip' 2>/dev/null || apt_install "python3's venv module" python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$MOTO" "${PYTHON_CLIENTS[@]}"
    printf '%s' "$wanted" >"$venv/.installed"
    say "python: installed $wanted ($venv)"
}

# In a venv of its own: its dependencies are not moto's.
install_ministack() {
    local venv="$tools/ministack"
    if up_to_date "$venv" "$MINISTACK"; then
        say "ministack: already there ($venv)"
        return
    fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$MINISTACK"
    printf '%s' "$MINISTACK" >"$venv/.installed"
    say "ministack: installed $MINISTACK ($venv)"
}

# A store whose conditional writes lose races, which the product has to refuse.
# install_by_cargo FOLDER CRATE VERSION OPTION...: builds a program of crates.io.
install_by_cargo() {
    local folder="$tools/$1" crate="$2" version="$3" build
    shift 3
    if up_to_date "$folder" "$version"; then
        say "$crate: already there ($folder)"
        return
    fi
    build="$(mktemp -d)"
    CARGO_TARGET_DIR="$build" cargo install --quiet --debug --locked --root "$folder" --version "$version" "$@" "$crate"
    rm -rf "$build"
    printf '%s' "$version" >"$folder/.installed"
    say "$crate: built $version ($folder)"
}

install_ceph() {
    local program
    for program in ceph ceph-authtool ceph-mon ceph-osd monmaptool radosgw radosgw-admin; do
        if ! command -v "$program" >/dev/null; then
            apt_install "$program of Ceph" "${CEPH[@]}"
            return
        fi
    done
    say 'ceph: already there'
}

install_redis() {
    if ! command -v redis-server >/dev/null; then
        apt_install 'redis-server' redis-server
    fi
    say 'redis: already there'
}

install_lfs_tools() {
    local venv="$tools/lfs" wanted="${LFS_SERVER[*]}"
    command -v git-lfs >/dev/null || apt_install 'git-lfs' git-lfs
    if up_to_date "$venv" "$wanted"; then
        say "lfs: already there ($venv)"
        return
    fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${LFS_SERVER[@]}"
    printf '%s' "$wanted" >"$venv/.installed"
    say "lfs: installed $wanted ($venv)"
}

node_is_recent() {
    local major
    major="$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null)" && [[ "$major" -ge "$NODE_MAJOR_WANTED" ]]
}

# The tests run `node_modules/.bin/node` where it exists, and `node` from the PATH otherwise.
install_node_tools() {
    local folder="$tools/node" packages=("${NODE_CLIENTS[@]}" "${NODE_SERVERS[@]}")
    command -v npm >/dev/null || apt_install 'npm' nodejs npm
    node_is_recent || packages+=("$NODE_PROGRAM")
    if up_to_date "$folder" "${packages[*]}"; then
        say "node: already there ($folder)"
        return
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    npm install --prefix "$folder" --silent --no-audit --no-fund "${packages[@]}"
    printf '%s' "${packages[*]}" >"$folder/.installed"
    say "node: installed ${packages[*]} ($folder)"
}

# The benches archive workspaces as others would: with tar and zstd.
install_archivers() {
    command -v zstd >/dev/null || apt_install 'zstd' zstd
}

# What the gateway is measured against. Their daemons are not started: Debian asks `policy-rc.d`.
install_proxies() {
    local program policy=/usr/sbin/policy-rc.d is_ours=false missing=()
    for program in nginx haproxy; do
        [[ -x "/usr/sbin/$program" ]] || missing+=("$program")
    done
    if [[ "${#missing[@]}" -eq 0 ]]; then
        say 'nginx and haproxy: already there'
        return
    fi
    if [[ "$(id -u)" -eq 0 && ! -e "$policy" ]]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        is_ours=true
    fi
    apt_install "${missing[*]}" "${PROXIES[@]}"
    if "$is_ours"; then rm "$policy"; fi
}

# Only promtool: the package itself would start a server.
install_promtool() {
    local folder="$tools/prometheus" packed
    if [[ -x "$folder/promtool" ]]; then
        say "promtool: already there ($folder)"
        return
    fi
    command -v apt-get >/dev/null || die "promtool is missing: put the one of Prometheus 2.42 or later into $folder"
    packed="$(mktemp -d)"
    if ! (cd "$packed" && apt-get download -qq prometheus >/dev/null 2>&1); then
        apt-get update -qq
        (cd "$packed" && apt-get download -qq prometheus >/dev/null)
    fi
    dpkg-deb --fsys-tarfile "$packed"/prometheus_*.deb | tar -x -C "$packed" ./usr/bin/promtool
    mkdir -p "$folder"
    mv "$packed/usr/bin/promtool" "$folder/promtool"
    rm -rf "$packed"
    say "promtool: installed ($folder)"
}

# A reader of OpenAPI documents that nobody here wrote, in a venv of its own.
install_openapi_tools() {
    local venv="$tools/openapi" wanted="${OPENAPI_TOOLS[*]}"
    if up_to_date "$venv" "$wanted"; then
        say "openapi: already there ($venv)"
        return
    fi
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${OPENAPI_TOOLS[@]}"
    printf '%s' "$wanted" >"$venv/.installed"
    say "openapi: installed $wanted ($venv)"
}

install_python_tools
install_promtool
install_openapi_tools
install_lfs_tools
install_ministack
install_node_tools
install_ceph
install_redis
install_by_cargo s3s s3s-fs "$S3S_FS" --features binary
install_by_cargo cargo-fuzz cargo-fuzz "$CARGO_FUZZ"
install_archivers
install_proxies
