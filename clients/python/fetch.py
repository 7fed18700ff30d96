"""Fetches all partitions of a topic from the beginning, over one Fetch stream.

Usage: fetch.py HOST:PORT TOPIC [follow]

Prints partition, offset, key and value of each record, separated by tabs. Only
grpcio and the code generated from proto/ are needed. It grants credit while it
reads, so a slow reader holds back the server and not the other way round.
"""
import queue
import signal
import sys

import grpc

sys.path.insert(0, __file__.rsplit("/", 1)[0] + "/gen")
from millstream.v1 import broker_service_pb2 as api, broker_service_pb2_grpc, topic_service_pb2 as topics, topic_service_pb2_grpc

addr, topic, follow = sys.argv[1], sys.argv[2], sys.argv[3:] == ["follow"]
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
WINDOW = 8 << 20  # bytes that may be on their way to us
out = sys.stdout.buffer

with grpc.insecure_channel(addr) as channel:
    count = topic_service_pb2_grpc.TopicServiceStub(channel).GetTopic(topics.GetTopicRequest(topic=topic)).topic.partition_count
    asks = queue.Queue()
    asks.put(api.FetchRequest(credit=WINDOW, subscribe=[
        api.FetchSubscription(subscription_id=p + 1, topic=topic, partition=p, until_end=not follow, form=api.FETCH_FORM_RECORDS)
        for p in range(count)]))
    used, finished = 0, 0
    for frame in broker_service_pb2_grpc.BrokerServiceStub(channel).Fetch(iter(asks.get, None)):
        if frame.HasField("error"):
            sys.exit(f"{topic}/{frame.partition}: {frame.error.message}")
        for r in frame.records:
            out.write(b"%d\t%d\t%s\t%s\n" % (frame.partition, r.offset, r.key, r.value))
        used += frame.credit_used
        asks.put(api.FetchRequest(credit=used + WINDOW))  # a total, so a lost grant does no harm
        finished += frame.caught_up.finished
        if finished == count:
            break
