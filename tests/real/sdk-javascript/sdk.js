// The CloudEvents SDK for JavaScript, told by lines of JSON on its input what to do (tests/src/real/sdk.rs).
"use strict";

const { CloudEvent, HTTP, MQTT, MQTTMessageFactory } = require("cloudevents");

async function publish({ mode, url, attributes, data, data_base64 }) {
  const content = data_base64 === undefined ? data : new Uint8Array(Buffer.from(data_base64, "base64"));
  const event = new CloudEvent({ ...attributes, data: content });
  const message = HTTP[mode](event);
  const answer = await fetch(url, {
    method: "POST",
    headers: message.headers,
    body: message.body,
    signal: AbortSignal.timeout(15000),
  });
  return { status: answer.status };
}

function read({ content_type, body }) {
  return shown(HTTP.toEvent({ headers: { "content-type": content_type }, body }));
}

function readMqtt({ content_type, user_properties, payload_base64 }) {
  const payload = Buffer.from(payload_base64, "base64");
  return shown(MQTT.toEvent(MQTTMessageFactory(content_type, user_properties, payload)));
}

function shown(event) {
  const { data, data_base64, ...rest } = event.toJSON();
  const set = Object.entries(rest).filter(([, value]) => value !== undefined);
  const attributes = Object.fromEntries(set.map(([name, value]) => [name, String(value)]));
  if (data_base64 !== undefined) return { attributes, data_base64 };
  if (ArrayBuffer.isView(data)) return { attributes, data_base64: Buffer.from(data).toString("base64") };
  return { attributes, data };
}

const does = { publish, read, readMqtt };

(async () => {
  for await (const line of require("node:readline").createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    console.log(JSON.stringify(await does[command.do](command)));
  }
})();
