"""The conversation of `tests/real/README.md` with Eclipse Paho for Python.

conversation.py URL VERSION NAME STEP...      prints each step when it is done
"""

import queue
import sys
import threading
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

LIMIT = 15
url, version, name = urlsplit(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def topic(rest):
    return f"{name}/{rest}"


class Client:
    """A connected client. Messages are taken by topic, in their order."""

    def __init__(self, id, clean=True, will=None):
        transport = "websockets" if url.scheme in ("ws", "wss") else "tcp"
        options = {} if version == 5 else {"clean_session": clean}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, f"{name}-{id}", protocol=version, transport=transport, reconnect_on_failure=False, **options
        )
        if transport == "websockets":
            self.client.ws_set_options(path=url.path)
        if url.scheme == "wss":
            self.client.tls_set()  # those of SSL_CERT_FILE
        if will:
            self.client.will_set(*will, qos=1)
        self.arrived = {}
        self.lock = threading.Lock()
        self.connected = queue.Queue()
        self.subscribed = queue.Queue()
        self.closed = threading.Event()
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put((flags, reason))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.subscribed.put(reasons)
        self.client.on_message = lambda c, u, message: self.box(message.topic).put(message)
        self.client.on_disconnect = lambda *words: self.closed.set()
        start = {}
        if version == 5:
            start["clean_start"] = clean
            if not clean:
                start["properties"] = properties(PacketTypes.CONNECT, SessionExpiryInterval=60)
        self.client.connect(url.hostname, url.port, **start)
        self.client.loop_start()
        flags, reason = self.connected.get(timeout=LIMIT)
        check(not reason.is_failure, "accepted", reason)
        self.session_present = flags.session_present

    def box(self, topic):
        with self.lock:
            return self.arrived.setdefault(topic, queue.Queue())

    def take(self, topic):
        return self.box(topic).get(timeout=LIMIT)

    def subscribe(self, filter, qos, **words):
        if words:
            words = {"options": SubscribeOptions(qos), "properties": properties(PacketTypes.SUBSCRIBE, **words)}
        else:
            words = {"qos": qos}
        self.client.subscribe(filter, **words)
        reasons = self.subscribed.get(timeout=LIMIT)
        check([reason.value for reason in reasons] == [qos], "granted", reasons)

    def publish(self, topic, data, qos, **words):
        published = self.client.publish(topic, data, qos, **words)
        published.wait_for_publish(LIMIT)
        check(published.is_published(), "acknowledged")

    def end(self):
        self.client.disconnect()
        check(self.closed.wait(LIMIT), "disconnected")
        self.client.loop_stop()


def properties(packet, **values):
    made = Properties(packet)
    for key, value in values.items():
        setattr(made, key, value)
    return made


def check(holds, what, got=None):
    if not holds:
        sys.exit(f"not {what}: {got}")


def qos():
    main.subscribe(topic("qos/+"), 2)
    for qos in (0, 1, 2):
        data = bytes((n + qos) % 256 for n in range(1000 * (qos + 1)))
        main.publish(topic(f"qos/{qos}"), data, qos)
        got = main.take(topic(f"qos/{qos}"))
        check(got.qos == qos and not got.retain and got.payload == data, "as it was published", got)


def retained():
    main.publish(topic("kept"), "kept", 1, retain=True)
    late = Client("late")
    late.subscribe(topic("kept"), 1)
    got = late.take(topic("kept"))
    check(got.retain and got.payload == b"kept", "the retained message", got)
    main.publish(topic("kept"), "", 1, retain=True)
    late.end()


def session():
    first = Client("session", clean=False)
    check(not first.session_present, "a new session")
    first.subscribe(topic("later/#"), 2)
    first.end()
    main.publish(topic("later/1"), "one", 1)
    main.publish(topic("later/2"), "two", 2)
    second = Client("session", clean=False)
    check(second.session_present, "the session is present")
    check(second.take(topic("later/1")).payload == b"one", "the first missed message")
    check(second.take(topic("later/2")).payload == b"two", "the second missed message")
    second.end()
    last = Client("session")
    check(not last.session_present, "the session was forgotten")
    last.end()


def will():
    main.subscribe(topic("will"), 1)
    dying = Client("dying", will=(topic("will"), "gone"))
    # A second connection of the same client: the broker ends the first one, which said no goodbye.
    heir = Client("dying")
    check(main.take(topic("will")).payload == b"gone", "the will")
    check(dying.closed.wait(LIMIT), "taken over")
    heir.end()


def with_properties():
    main.subscribe(topic("properties"), 1, SubscriptionIdentifier=7)
    sent = properties(
        PacketTypes.PUBLISH,
        UserProperty=("colour", "green"),
        ContentType="text/plain",
        ResponseTopic=topic("answer"),
        CorrelationData=b"c1",
    )
    main.publish(topic("properties"), "with", 1, properties=sent)
    got = main.take(topic("properties")).properties
    check(got.UserProperty == [("colour", "green")], "the user property", got)
    check(got.ContentType == "text/plain", "the content type", got)
    check(got.ResponseTopic == topic("answer"), "the response topic", got)
    check(got.CorrelationData == b"c1", "the correlation data", got)
    check(got.SubscriptionIdentifier == [7], "the subscription identifier", got)


def shared():
    members = [Client("member-a"), Client("member-b")]
    both = queue.Queue()
    for member in members:
        member.client.on_message = lambda c, u, message: both.put(message.payload)
        member.subscribe(f"$share/group/{topic('shared')}", 1)
    sent = [b"shared %d" % n for n in range(10)]
    for data in sent:
        main.publish(topic("shared"), data, 1)
    got = [both.get(timeout=LIMIT) for _ in sent]
    check(sorted(got) == sorted(sent), "each once", got)
    for member in members:
        member.end()


STEPS = {
    "qos": qos,
    "retained": retained,
    "session": session,
    "will": will,
    "properties": with_properties,
    "shared": shared,
}

main = Client("main")
for step in sys.argv[4:]:
    STEPS[step]()
    print(step, flush=True)
main.end()
