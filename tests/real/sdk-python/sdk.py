"""The CloudEvents SDK for Python, told by lines of JSON on its input what to do (tests/src/real/sdk.rs)."""

import base64
import json
import sys
import urllib.request
from datetime import datetime

from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent


def publish(mode, url, attributes, data=None, data_base64=None):
    attributes = dict(attributes)
    if "time" in attributes:
        attributes["time"] = datetime.fromisoformat(attributes["time"].replace("Z", "+00:00"))
    if data_base64 is not None:
        data = base64.b64decode(data_base64)
    event = CloudEvent(attributes, data)
    write = {"binary": http.to_binary, "structured": http.to_structured}[mode]
    message = write(event, JSONFormat())
    request = urllib.request.Request(url, message.body, message.headers, method="POST")
    with urllib.request.urlopen(request, timeout=15) as answer:
        return {"status": answer.status}


def read(body, content_type=None, headers=None):
    message = http.HTTPMessage(headers=headers or {"content-type": content_type}, body=body.encode())
    event = http.from_http(message, JSONFormat())
    attributes = {name: text(value) for name, value in event.get_attributes().items()}
    data = event.get_data()
    if isinstance(data, bytes):
        return {"attributes": attributes, "data_base64": base64.b64encode(data).decode()}
    return {"attributes": attributes, "data": data}


def text(value):
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


for line in sys.stdin:
    command = json.loads(line)
    do = {"publish": publish, "read": read}[command.pop("do")]
    print(json.dumps(do(**command)), flush=True)
