"""Prints what Python's protobuf reads in RecordBatch files, as JSON.

Usage: decode.py DESCRIPTOR_SET FILE...
DESCRIPTOR_SET is a serialized google.protobuf.FileDescriptorSet.
"""
import json
import os
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def optional(message, field):
    return getattr(message, field).hex() if message.HasField(field) else None


def content(batch):
    return {
        "compression": batch.compression,
        "compressed": batch.compressed.hex(),
        "record_count": batch.record_count,
        "records": [
            {
                "key": optional(r, "key"),
                "value": optional(r, "value"),
                "headers": [
                    {"key": h.key.encode().hex(), "value": optional(h, "value")} for h in r.headers
                ],
                "timestamp_ms": str(r.timestamp_ms) if r.HasField("timestamp_ms") else None,
            }
            for r in batch.records
        ],
    }


def main():
    pool = descriptor_pool.DescriptorPool()
    with open(sys.argv[1], "rb") as f:
        for file in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file:
            pool.Add(file)
    batch_class = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("millstream.v1.RecordBatch")
    )
    found = {}
    for path in sys.argv[2:]:
        with open(path, "rb") as f:
            try:
                found[os.path.basename(path)] = content(batch_class.FromString(f.read()))
            except Exception as e:  # whatever a decoder raises is its answer
                found[os.path.basename(path)] = {"error": repr(e)}
    json.dump(found, sys.stdout)


main()
