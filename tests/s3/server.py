"""An S3 server of one's own: moto, with signatures checked, one bucket, one user. It tells its port and the user's keys in
one line of JSON, and serves until its standard input ends.

    server.py [--port N] [--objects N] [--bucket NAME]
"""

import argparse
import json
import os
import sys

# Before moto reads it: not one request goes without a signature that fits.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"

from moto.iam.models import iam_backends  # noqa: E402
from moto.moto_server.threaded_moto_server import ThreadedMotoServer  # noqa: E402
from moto.s3.models import s3_backends  # noqa: E402

ACCOUNT = "123456789012"
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, default=0)
    arguments.add_argument("--objects", type=int, default=0)
    arguments.add_argument("--bucket", default="backups")
    wanted = arguments.parse_args()

    users = iam_backends[ACCOUNT]["aws"]
    users.create_user("us-east-1", "lastgood")
    users.put_user_policy("lastgood", "everything", json.dumps(EVERYTHING))
    key = users.create_access_key("lastgood")
    store = s3_backends[ACCOUNT]["aws"]
    store.create_bucket(wanted.bucket, "us-east-1")
    for number in range(wanted.objects):
        store.put_object(wanted.bucket, f"etcd/{number:06}.txt", b"x")

    server = ThreadedMotoServer("127.0.0.1", wanted.port, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    told = {"port": port, "access_key": key.access_key_id, "secret": key.secret_access_key}
    print(json.dumps(told), flush=True)
    sys.stdin.read()


main()
