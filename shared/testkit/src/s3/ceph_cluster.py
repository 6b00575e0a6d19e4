"""Runs Ceph's gateway over a cluster of one, in memory and on loopback, for as long as anyone holds a lock on a file.

    ceph_cluster.py USERS READY BUCKET

Whoever uses the cluster holds a shared lock (flock) on the file USERS. When all is up, the file READY appears with three lines: the
endpoint, and both halves of a key. When nobody holds the lock any more, everything ends, READY and all files of the cluster are removed.
The daemons end with this process, however it ends.
"""

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

PR_SET_PDEATHSIG = 1
POLL_SECS = 0.2
START_SECS = 150
STOP_SECS = 10
LIBC = ctypes.CDLL(None)

CONFIG = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon_port}/0
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 4294967296
keyring = {folder}/keyring
mon_data = {folder}/mon
osd_data = {folder}/osd
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
pid_file = {folder}/run/$name.pid
log_file = {folder}/log/$name.log
mon_data_avail_crit = 1
mon_data_avail_warn = 2
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{rgw_port} tcp_nodelay=1
rgw_data = {folder}/rgw
rgw_thread_pool_size = 64
rgw_enable_usage_log = false
rgw_run_sync_thread = false
rgw_enable_lc_threads = false
rgw_enable_gc_threads = false
"""

KEYS = [
    ("mon.", ["mon", "allow *"]),
    ("client.admin", ["mon", "allow *", "osd", "allow *", "mgr", "allow *"]),
    ("client.rgw", ["mon", "allow rw", "osd", "allow rwx"]),
    ("osd.0", ["mon", "allow profile osd", "osd", "allow *"]),
]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.daemons = []
        self.fsid = str(uuid.uuid4())
        self.mon_port, self.rgw_port = free_ports(2)
        for name in ["mon", "osd", "run", "log", "rgw"]:
            os.mkdir(f"{folder}/{name}")
        with open(f"{folder}/ceph.conf", "w") as file:
            file.write(CONFIG.format(**vars(self)))
        self.config = ["-c", f"{folder}/ceph.conf", "-k", f"{folder}/keyring"]

    def run(self, *command, timeout=60):
        subprocess.run(
            command, check=True, timeout=timeout, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def daemon(self, *command):
        def end_with_us():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

        daemon = subprocess.Popen(
            [*command, *self.config, "-f"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_us,
        )
        self.daemons.append(daemon)

    def start(self, bucket):
        map_file, keyring = f"{self.folder}/monmap", f"{self.folder}/keyring"
        address = f"[v2:127.0.0.1:{self.mon_port}]"
        self.run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", address, map_file)
        self.run("ceph-authtool", "--create-keyring", keyring)
        for name, rights in KEYS:
            pairs = [word for at in range(0, len(rights), 2) for word in ["--cap", rights[at], rights[at + 1]]]
            self.run("ceph-authtool", keyring, "--gen-key", "-n", name, *pairs)
        self.run("ceph-mon", *self.config, "-i", "a", "--mkfs", "--monmap", map_file)
        self.daemon("ceph-mon", "-i", "a")
        self.run("ceph", *self.config, "auth", "import", "-i", keyring)
        osd = str(uuid.uuid4())
        self.run("ceph", *self.config, "osd", "new", osd)
        self.run("ceph-osd", *self.config, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.daemon("ceph-osd", "-i", "0")
        self.run("ceph", *self.config, "osd", "crush", "add", "osd.0", "1.0", "host=here", "root=default")
        key, secret = secrets.token_hex(10).upper(), secrets.token_hex(20)
        user = ["--uid", "tests", "--display-name", "tests", "--access-key", key, "--secret-key", secret]
        self.run("radosgw-admin", *self.config, "user", "create", *user, timeout=START_SECS)
        self.daemon("radosgw", "-n", "client.rgw")
        endpoint = f"http://127.0.0.1:{self.rgw_port}"
        make_bucket(endpoint, key, secret, bucket)
        return [endpoint, key, secret]

    def is_whole(self):
        return all(daemon.poll() is None for daemon in self.daemons)

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait(STOP_SECS)


def make_bucket(endpoint, key, secret, bucket):
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ConnectionError as NotYet

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    deadline = time.monotonic() + START_SECS
    while True:
        try:
            client.create_bucket(Bucket=bucket)
            return
        except NotYet:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECS)


def is_unused(users):
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def main():
    users_path, ready, bucket = sys.argv[1:]
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = tempfile.mkdtemp(prefix="mayfly-ceph-")
    cluster = Cluster(folder)
    with open(users_path) as users:
        try:
            lines = cluster.start(bucket)
            with open(f"{ready}.new", "w") as file:
                file.write("\n".join(lines))
            os.rename(f"{ready}.new", ready)
            while cluster.is_whole() and not is_unused(users):
                time.sleep(POLL_SECS)
        finally:
            if os.path.exists(ready):
                os.remove(ready)
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)


main()
