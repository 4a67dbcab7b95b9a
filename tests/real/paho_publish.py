"""Publishes numbered messages with Eclipse Paho and reports each as "sent N TOPIC" and "acked N TOPIC".

paho_publish.py HOST PORT CLIENT QOS:TOPIC...     until stdin is closed, then until all is acknowledged
"""

import json
import queue
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
topics = [tuple(argument.split(":", 1)) for argument in sys.argv[4:]]

OPEN_MAX = 10
open_messages = {}
# Paho calls back with its own locks held: only put aside what happened.
answers = queue.SimpleQueue()
stopping = threading.Event()


def report(*words):
    print(*words, flush=True)


def take_answers(patience):
    """Reports what was answered; waits up to `patience` seconds for the first."""
    try:
        mid, reason = answers.get(timeout=patience)
        while True:
            n, topic = open_messages.pop(mid)
            if reason.is_failure:
                print("refused", n, topic, reason, file=sys.stderr, flush=True)
            else:
                report("acked", n, topic)
            mid, reason = answers.get_nowait()
    except queue.Empty:
        pass


def wait_for_end_of_input():
    sys.stdin.read()
    stopping.set()


class Client(mqtt.Client):
    """Paho 2.1 forgets that it sent PUBREL when two attempts to connect follow each other: on the second one,
    `_messages_reconnect_reset_out` takes a message that waits for its PUBREL to be sent again for one that was never
    sent, and publishes it once more, as a new one. No server can tell. Here PUBREL stays PUBREL."""

    def _messages_reconnect_reset_out(self):
        released = [message for message in self._out_messages.values() if message.state == mqtt.mqtt_ms_resend_pubrel]
        super()._messages_reconnect_reset_out()
        for message in released:
            message.state = mqtt.mqtt_ms_resend_pubrel


client = Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
client.on_publish = lambda client, userdata, mid, reason, properties: answers.put((mid, reason))
client.on_disconnect = lambda *words: print("disconnected", words[3], file=sys.stderr, flush=True)
client.reconnect_delay_set(min_delay=1, max_delay=1)
client.max_inflight_messages_set(OPEN_MAX)
keep = Properties(PacketTypes.CONNECT)
keep.SessionExpiryInterval = 3600
client.connect(host, port, clean_start=False, properties=keep)
client.loop_start()
threading.Thread(target=wait_for_end_of_input, daemon=True).start()

n = 0
while not stopping.is_set():
    if len(open_messages) < OPEN_MAX:
        qos, topic = topics[n % len(topics)]
        report("sent", n, topic)
        data = json.dumps({"publisher": name, "n": n})
        open_messages[client.publish(topic, data, int(qos)).mid] = (n, topic)
        n += 1
    take_answers(0.02)

end = time.monotonic() + 60
while open_messages and time.monotonic() < end:
    take_answers(1)
client.disconnect()
client.loop_stop()
sys.exit(1 if open_messages else 0)
