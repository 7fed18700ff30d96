"""Produces and consumes through whichever broker of a cluster answers.

Usage: failover.py produce HOST:PORT,HOST:PORT,... TOPIC PARTITION   (a record for each line of standard input)
       failover.py consume HOST:PORT,HOST:PORT,... TOPIC PARTITION   (until it is ended)

Every broker serves everything, so when the one in use is lost, the next will
do. consume() resumes where it was, by offset and leader epoch: nothing is
missed and nothing comes twice. produce() repeats what surely was not written,
before what comes after it; what may have been written it reports and never
sends again. Only grpcio and the code generated from proto/ are needed.
"""
import itertools
import queue
import sys
import time

import grpc

sys.path.insert(0, __file__.rsplit("/", 1)[0] + "/gen")
from millstream.v1 import broker_service_pb2 as api, broker_service_pb2_grpc, errors_pb2 as errors, record_pb2 as rec

CONNECT, RETRY, GIVE_UP = 2, 0.1, 60  # seconds
WINDOW = 8 << 20  # bytes that may be on their way to a consumer
MOVES = (errors.ERROR_REASON_NOT_LEADER,)  # not retryable as such, but asked elsewhere


class UnknownOutcome(Exception):
    """The record may have been written, or not: sending it again may write it twice."""


class Failed(Exception):
    """What a broker refused, in its words."""


def connections(addrs):
    """Yields stubs to brokers that answer, for ever: the next one when it is asked for another."""
    last_answer = time.monotonic()
    for addr in itertools.cycle(addrs):
        with grpc.insecure_channel(addr, options=[("grpc.keepalive_time_ms", 30_000)]) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=CONNECT)
            except grpc.FutureTimeoutError:
                if time.monotonic() - last_answer > GIVE_UP:
                    raise Failed(f"none of {', '.join(addrs)} has answered for {GIVE_UP} s") from None
            else:
                yield broker_service_pb2_grpc.BrokerServiceStub(channel)
                last_answer = time.monotonic()
        time.sleep(RETRY)


def retryable(error):
    return error.retryable or error.reason in MOVES


def consume(addrs, topic, partition, position=None):
    """Yields the records of a partition from a position on, the earliest record if it is None."""
    position = position or api.FetchPosition(earliest=api.Earliest())
    for broker in connections(addrs):
        asks = queue.Queue()
        asks.put(api.FetchRequest(credit=WINDOW, subscribe=[api.FetchSubscription(
            subscription_id=1, topic=topic, partition=partition, position=position, form=api.FETCH_FORM_RECORDS)]))
        used = 0
        call = broker.Fetch(iter(asks.get, None))
        try:
            for frame in call:
                if frame.HasField("error") and not retryable(frame.error):
                    raise Failed(f"{topic}/{partition}: {frame.error.message}")
                if frame.HasField("error") or frame.HasField("reroute"):
                    break  # its leader is gone: ask another broker
                if frame.subscription_id == 0:
                    continue  # the broker is about to stop: the stream ends when it has
                for r in frame.records:
                    # Behind this record, which is of that leader: should the
                    # log have another history, the broker says so (DIVERGED).
                    position = api.FetchPosition(offset=r.offset + 1, leader_epoch=r.leader_epoch)
                    yield r
                used += frame.credit_used
                asks.put(api.FetchRequest(credit=used + WINDOW))
        except grpc.RpcError:
            pass  # the broker is gone
        finally:
            call.cancel()
            asks.put(None)


def produce(addrs, topic, partition, values):
    """Appends records one by one, and yields (value, offset, error): error is an UnknownOutcome or None.

    Raises Failed at what a broker refuses.
    """
    values = iter(values)
    value, restart = next(values, None), False
    for broker in connections(addrs):
        asks = queue.Queue()
        call = broker.Produce(iter(asks.get, None))
        try:
            for correlation_id in itertools.count(1):
                if value is None:
                    return
                asks.put(api.ProduceRequest(
                    correlation_id=correlation_id, topic=topic, partition=partition, restart=restart,
                    batch=rec.RecordBatch(records=[rec.Record(value=value)])))
                unknown, drain = None, False
                try:
                    answer = next(call)
                    while answer.correlation_id == 0:  # a control message
                        drain = True
                        answer = next(call)
                except StopIteration:
                    break  # the broker stopped in order, and answered all that it took
                except grpc.RpcError as lost:
                    unknown = UnknownOutcome(lost.details())
                else:
                    drain = drain or answer.HasField("drain")
                    # After an error a broker refuses the partition until a
                    # request says that it begins anew.
                    restart = answer.HasField("error")
                    if restart and answer.error.reason == errors.ERROR_REASON_UNKNOWN_OUTCOME:
                        unknown = UnknownOutcome(answer.error.message)
                    elif restart and retryable(answer.error):
                        break  # not written: again, elsewhere
                    elif restart:
                        raise Failed(f"{topic}/{partition}: {answer.error.message}")
                yield value, None if unknown else answer.base_offset, unknown
                value = next(values, None)
                if unknown or drain:
                    break
        finally:
            call.cancel()
            asks.put(None)


def main():
    what, addrs, topic, partition = sys.argv[1], sys.argv[2].split(","), sys.argv[3], int(sys.argv[4])
    if what == "consume":
        for r in consume(addrs, topic, partition):
            print(r.offset, r.value.decode(), flush=True)
        return
    for value, offset, error in produce(addrs, topic, partition, (line.rstrip(b"\n") for line in sys.stdin.buffer)):
        print("unknown" if error else offset, value.decode(), flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as e:
        sys.exit(str(e))
