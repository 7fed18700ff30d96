"""Produces the lines of standard input to a topic, over one Produce stream.

Usage: produce.py HOST:PORT TOPIC [KEY_FIELD]   (lines are JSON if KEY_FIELD is given)

Only grpcio and the code generated from proto/ are needed. Answers are read
while requests are sent: a server stops reading a client that does not read.
"""
import itertools
import json
import sys
import threading

import grpc

sys.path.insert(0, __file__.rsplit("/", 1)[0] + "/gen")
from millstream.v1 import broker_service_pb2 as api, broker_service_pb2_grpc, record_pb2 as rec

addr, topic, key_field = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
BATCH_RECORDS, IN_FLIGHT = 200, 100
slots = threading.Semaphore(IN_FLIGHT)  # how far sending may run ahead of the answers


def record(line):
    value = line.rstrip(b"\n")
    key = json.loads(value)[key_field].encode() if key_field else None
    return rec.Record(key=key, value=value)


def requests():
    batch, correlation_id = [], 0
    for line in itertools.chain(sys.stdin.buffer, [None]):
        if line is not None:
            batch.append(record(line))
        if batch and (line is None or len(batch) == BATCH_RECORDS):
            slots.acquire()
            correlation_id += 1
            yield api.ProduceRequest(correlation_id=correlation_id, topic=topic, batch=rec.RecordBatch(records=batch))
            batch = []


acknowledged = 0
with grpc.insecure_channel(addr) as channel:
    for answer in broker_service_pb2_grpc.BrokerServiceStub(channel).Produce(requests()):
        if answer.correlation_id == 0:
            continue  # a control message: the server is about to stop
        for error in [answer.error, *(part.error for part in answer.parts)]:
            if error.code:
                sys.exit(f"after {acknowledged} batches: {error.message}")
        acknowledged += 1
        slots.release()
print(f"{acknowledged} batches acknowledged", file=sys.stderr)
