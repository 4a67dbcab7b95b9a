"""A conversation over QUIC with aioquic, an implementation of its own, and MQTT 5 written out byte by byte.

conversation.py HOST PORT CA NAME STEP...      prints each step when it is done

| step | what happens |
|---|---|
| single | all over one stream: publish and subscribe at QoS 0, 1 and 2, ping, a packet larger than a window |
| session | a session that stays gets, in its next connection, what it missed |
| streams | answers come on the stream of their packets, events on that of their subscription |
| reset | a stream is reset with deliveries under way: they come again on the control stream |
| will | the connection is closed without a word: the will is published |
"""

import asyncio
import ssl
import sys
from contextlib import asynccontextmanager

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived, StreamReset

LIMIT = 15
host, port, ca, name = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]


def check(holds, what, got=None):
    if not holds:
        sys.exit(f"not {what}: {got}")


def length(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def packet(first, body):
    return bytes([first]) + length(len(body)) + body


def text(value):
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def hello(client, clean=True, will=None):
    flags = (2 if clean else 0) | (0x0C if will else 0)
    properties = b"" if clean else b"\x11" + (60).to_bytes(4, "big")
    body = text("MQTT") + bytes([5, flags, 0, 30]) + length(len(properties)) + properties + text(client)
    if will:
        body += b"\0" + text(will[0]) + text(will[1])
    return packet(0x10, body)


def publish(id, topic, data, qos):
    return packet(0x30 | qos << 1, text(topic) + (id.to_bytes(2, "big") if qos else b"") + b"\0" + data)


def ack(kind, id):
    return packet(kind << 4 | (2 if kind == PUBREL else 0), id.to_bytes(2, "big"))


def subscribe(id, filter, qos):
    return packet(0x82, id.to_bytes(2, "big") + b"\0" + text(filter) + bytes([qos]))


CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 5, 6, 7, 9, 13, 14


class Protocol(QuicConnectionProtocol):
    """Hands what comes to its stream."""

    def __init__(self, *words, **more):
        super().__init__(*words, **more)
        self.streams = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            self.streams[event.stream_id].feed(event.data, event.end_stream)
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].feed(b"", True)

    def open(self):
        # Bidirectional streams of a client: 0, 4, 8, ...
        stream = Stream(self, 4 * len(self.streams))
        self.streams[stream.id] = stream
        return stream


class Stream:
    """A bidirectional stream; packets are (type, flags, body)."""

    def __init__(self, protocol, id):
        self.protocol, self.id, self.input, self.packets = protocol, id, b"", asyncio.Queue()

    def feed(self, data, end):
        self.input += data
        while taken := self.take():
            self.packets.put_nowait(taken)
        if end:
            self.packets.put_nowait(None)

    def take(self):
        size, at = 0, 1
        while True:
            if at >= len(self.input):
                return None
            size |= (self.input[at] & 127) << 7 * (at - 1)
            at += 1
            if self.input[at - 1] < 128:
                break
        if len(self.input) < at + size:
            return None
        first, body, self.input = self.input[0], self.input[at : at + size], self.input[at + size :]
        return first >> 4, first & 15, body

    def send(self, data, end=False):
        self.protocol._quic.send_stream_data(self.id, data, end)
        self.protocol.transmit()

    def reset(self):
        self.protocol._quic.reset_stream(self.id, 1)
        self.protocol.transmit()

    async def next(self, *kinds):
        got = await asyncio.wait_for(self.packets.get(), LIMIT)
        check(got is not None and got[0] in kinds, f"a packet of type {kinds}", got)
        return got

    async def acked(self, kind, id):
        got = await self.next(kind)
        check(int.from_bytes(got[2][:2], "big") == id, f"an ack of {id}", got)
        check(len(got[2]) < 3 or got[2][2] < 0x80, "a good one", got)

    async def message(self):
        """QoS, DUP, id and data of the next PUBLISH."""
        return message_of(await self.next(PUBLISH))

    async def subscribe(self, id, filter, qos):
        self.send(subscribe(id, filter, qos))
        got = await self.next(SUBACK)
        check(got[2][:2] == id.to_bytes(2, "big") and got[2][-1] == qos, "granted", got)

    async def publish(self, id, topic, data, qos=1):
        self.send(publish(id, topic, data, qos))
        if qos == 1:
            await self.acked(PUBACK, id)
        if qos == 2:
            await self.acked(PUBREC, id)
            self.send(ack(PUBREL, id))
            await self.acked(PUBCOMP, id)


def message_of(got):
    _, flags, body = got
    qos, at = flags >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
    id = int.from_bytes(body[at : at + 2], "big") if qos else 0
    at += 2 if qos else 0
    check(body[at] < 128, "few properties", body[:64])
    return qos, bool(flags & 8), id, body[at + 1 + body[at] :]


@asynccontextmanager
async def client(id, **words):
    """A connection and its control stream, connected."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["mqtt"], server_name="localhost", verify_mode=ssl.CERT_REQUIRED)
    configuration.load_verify_locations(ca)
    async with connect(host, port, configuration=configuration, create_protocol=Protocol) as protocol:
        control = protocol.open()
        control.send(hello(f"{name}-{id}", **words))
        got = await control.next(CONNACK)
        check(got[2][1] == 0, "accepted", got)
        protocol.present = bool(got[2][0])
        yield protocol, control


def topic(rest):
    return f"{name}/{rest}"


async def single():
    async with client("single") as (_, control), client("writer") as (_, writer):
        await control.subscribe(1, topic("single/+"), 2)
        for qos in (0, 1, 2):
            data = bytes(n % 251 for n in range(300_000 * qos + 10))
            await writer.publish(7 + qos, topic(f"single/{qos}"), data, qos)
            got = await control.message()
            check((got[0], got[1], got[3]) == (qos, False, data), "as it was published", got[:3])
            if qos == 1:
                control.send(ack(PUBACK, got[2]))
            if qos == 2:
                control.send(ack(PUBREC, got[2]))
                await control.acked(PUBREL, got[2])
                control.send(ack(PUBCOMP, got[2]))
        control.send(b"\xc0\0")
        await control.next(PINGRESP)
        control.send(b"\xe0\0")
        check(await asyncio.wait_for(control.packets.get(), LIMIT) is None, "closed after DISCONNECT")


async def session():
    async with client("session", clean=False) as (protocol, control):
        check(not protocol.present, "a new session")
        await control.subscribe(1, topic("later"), 1)
        control.send(b"\xe0\0")
    async with client("writer") as (_, writer):
        await writer.publish(1, topic("later"), b"missed")
    async with client("session", clean=False) as (protocol, control):
        check(protocol.present, "the session is present")
        check((await control.message())[3] == b"missed", "what it missed")


async def streams():
    async with client("streams") as (protocol, control):
        one, other, writer = protocol.open(), protocol.open(), protocol.open()
        await one.subscribe(1, topic("one"), 1)
        await other.subscribe(2, topic("other"), 1)
        await control.subscribe(3, topic("control"), 1)
        for id, (stream, last) in enumerate([(one, "one"), (other, "other"), (control, "control")], 4):
            await writer.publish(id, topic(last), last.encode())
            got = await stream.message()
            check(got[3] == last.encode(), f"on stream {last}", got)
            stream.send(ack(PUBACK, got[2]))


async def reset():
    async with client("reset") as (protocol, control):
        data = protocol.open()
        await data.subscribe(1, topic("reset"), 2)
        await control.publish(2, topic("reset"), b"under way")
        first = await data.message()
        data.reset()
        again = await control.message()
        check(again == (first[0], True, first[2], first[3]), "again, with DUP", again)
        control.send(ack(PUBACK, again[2]))
        other = protocol.open()
        await other.publish(3, topic("elsewhere"), b"", 2)


async def will():
    async with client("heir") as (_, heir):
        await heir.subscribe(1, topic("will"), 1)
        async with client("dying", will=(topic("will"), "gone")):
            pass
        check((await heir.message())[3] == b"gone", "the will")


STEPS = {"single": single, "session": session, "streams": streams, "reset": reset, "will": will}


async def main():
    for step in sys.argv[5:]:
        await STEPS[step]()
        print(step, flush=True)


asyncio.run(main())
