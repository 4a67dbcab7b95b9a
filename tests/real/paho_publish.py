"""Publishes numbered messages with Eclipse Paho and reports each as "sent N TOPIC" and "acked N TOPIC".

paho_publish.py HOST PORT CLIENT QOS:TOPIC...     until stdin is closed, then until all is acknowledged
"""

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
topics = [tuple(argument.split(":", 1)) for argument in sys.argv[4:]]

lock = threading.Lock()
open_messages = {}
stopping = threading.Event()
idle = threading.Condition(lock)


def report(*words):
    print(*words, flush=True)


def on_publish(client, userdata, mid, reason, properties):
    with lock:
        n, topic = open_messages.pop(mid)
        idle.notify_all()
    if reason.is_failure:
        print("refused", n, topic, reason, file=sys.stderr, flush=True)
    else:
        report("acked", n, topic)


def wait_for_end_of_input():
    sys.stdin.read()
    stopping.set()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
client.on_publish = on_publish
client.on_disconnect = lambda *words: print("disconnected", words[3], file=sys.stderr, flush=True)
client.reconnect_delay_set(min_delay=1, max_delay=1)
client.max_inflight_messages_set(10)
keep = Properties(PacketTypes.CONNECT)
keep.SessionExpiryInterval = 3600
client.connect(host, port, clean_start=False, properties=keep)
client.loop_start()
threading.Thread(target=wait_for_end_of_input, daemon=True).start()

n = 0
while not stopping.is_set():
    with lock:
        room = len(open_messages) < 10
        if room:
            qos, topic = topics[n % len(topics)]
            report("sent", n, topic)
            data = json.dumps({"publisher": name, "n": n})
            open_messages[client.publish(topic, data, int(qos)).mid] = (n, topic)
            n += 1
    stopping.wait(0.02)

with lock:
    done = idle.wait_for(lambda: not open_messages, timeout=60)
client.disconnect()
client.loop_stop()
sys.exit(0 if done else 1)
