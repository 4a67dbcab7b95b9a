// The conversation of `tests/real/README.md` with MQTT.js: the same file in Node and in a browser.

const LIMIT_MS = 15_000;

export async function converse(mqtt, url, version, name, steps, say) {
  const topic = (rest) => `${name}/${rest}`;
  const connect = (id, more) => open(mqtt, url, { protocolVersion: version, clientId: `${name}-${id}`, ...more });
  const main = await connect("main", {});

  const conversation = {
    async qos() {
      await main.client.subscribeAsync(topic("qos/+"), { qos: 2 });
      for (const qos of [0, 1, 2]) {
        const data = bytes(1000 * (qos + 1), qos);
        await main.client.publishAsync(topic(`qos/${qos}`), data, { qos });
        const got = await main.take(topic(`qos/${qos}`));
        check(got.qos === qos && !got.retain && same(got.payload, data), "as it was published", got);
      }
    },

    async retained() {
      await main.client.publishAsync(topic("kept"), "kept", { qos: 1, retain: true });
      const late = await connect("late", {});
      await late.client.subscribeAsync(topic("kept"), { qos: 1 });
      const got = await late.take(topic("kept"));
      check(got.retain && text(got) === "kept", "the retained message", got);
      await main.client.publishAsync(topic("kept"), "", { qos: 1, retain: true });
      await late.client.endAsync();
    },

    async session() {
      const keep = version === 5 ? { clean: false, properties: { sessionExpiryInterval: 60 } } : { clean: false };
      const first = await connect("session", keep);
      check(!first.sessionPresent, "a new session");
      await first.client.subscribeAsync(topic("later/#"), { qos: 2 });
      await first.client.endAsync();
      await main.client.publishAsync(topic("later/1"), "one", { qos: 1 });
      await main.client.publishAsync(topic("later/2"), "two", { qos: 2 });
      const second = await connect("session", keep);
      check(second.sessionPresent, "the session is present");
      check(text(await second.take(topic("later/1"))) === "one", "the first missed message");
      check(text(await second.take(topic("later/2"))) === "two", "the second missed message");
      await second.client.endAsync();
      const last = await connect("session", { clean: true });
      check(!last.sessionPresent, "the session was forgotten");
      await last.client.endAsync();
    },

    async will() {
      await main.client.subscribeAsync(topic("will"), { qos: 1 });
      const will = { topic: topic("will"), payload: "gone", qos: 1, retain: false };
      const dying = await connect("dying", { will });
      // A second connection of the same client: the broker ends the first one, which said no goodbye.
      const heir = await connect("dying", {});
      check(text(await main.take(topic("will"))) === "gone", "the will");
      await dying.closed;
      await heir.client.endAsync();
    },

    async properties() {
      const identifier = { qos: 1, properties: { subscriptionIdentifier: 7 } };
      await main.client.subscribeAsync(topic("properties"), identifier);
      await main.client.publishAsync(topic("properties"), "with", {
        qos: 1,
        properties: {
          userProperties: { colour: "green" },
          contentType: "text/plain",
          responseTopic: topic("answer"),
          correlationData: bytes(8, 3),
        },
      });
      const { properties } = await main.take(topic("properties"));
      check(properties.userProperties.colour === "green", "the user property", properties);
      check(properties.contentType === "text/plain", "the content type", properties);
      check(properties.responseTopic === topic("answer"), "the response topic", properties);
      check(same(properties.correlationData, bytes(8, 3)), "the correlation data", properties);
      check([properties.subscriptionIdentifier].flat().includes(7), "the subscription identifier", properties);
    },

    async shared() {
      const members = [await connect("member-a", {}), await connect("member-b", {})];
      for (const member of members) {
        await member.client.subscribeAsync(`$share/group/${topic("shared")}`, { qos: 1 });
      }
      const sent = Array.from({ length: 10 }, (_, n) => `shared ${n}`);
      const got = [];
      const all = limited("shared messages", (resolve) => {
        for (const { client } of members) {
          client.on("message", (_, payload) => got.push(`${payload}`) === sent.length && resolve());
        }
      });
      for (const data of sent) await main.client.publishAsync(topic("shared"), data, { qos: 1 });
      await all;
      check(got.sort().join() === sent.sort().join(), "each once", got);
      for (const member of members) await member.client.endAsync();
    },
  };

  for (const step of steps) {
    await conversation[step]();
    say(step);
  }
  await main.client.endAsync();
}

// A connected client and what it received. Messages are taken by topic, in their order.
async function open(mqtt, url, options) {
  const client = mqtt.connect(url, { reconnectPeriod: 0, connectTimeout: LIMIT_MS, ...options });
  const waiting = [];
  const arrived = [];
  client.on("message", (topic, payload, packet) => {
    const place = waiting.findIndex((one) => one.topic === topic);
    if (place >= 0) waiting.splice(place, 1)[0].resolve(packet);
    else arrived.push(packet);
  });
  const closed = new Promise((resolve) => client.on("close", resolve));
  const connack = await limited("CONNACK", (resolve, reject) => {
    client.on("connect", resolve);
    client.on("error", reject);
  });
  const take = (topic) => {
    const place = arrived.findIndex((packet) => packet.topic === topic);
    if (place >= 0) return Promise.resolve(arrived.splice(place, 1)[0]);
    return limited(topic, (resolve) => waiting.push({ topic, resolve }));
  };
  return { client, take, closed, sessionPresent: connack.sessionPresent };
}

function limited(what, start) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${what} within ${LIMIT_MS} ms`)), LIMIT_MS);
    const done = (value) => (clearTimeout(timer), resolve(value));
    start(done, reject);
  });
}

const bytes = (length, seed) => Uint8Array.from({ length }, (_, n) => n + seed);
const same = (got, wanted) => got.length === wanted.length && got.every((byte, n) => byte === wanted[n]);
const text = (packet) => packet.payload.toString();

function check(holds, what, got) {
  if (!holds) throw new Error(`not ${what}: ${JSON.stringify(got)}`);
}
