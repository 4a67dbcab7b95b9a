import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3AsyncClient;
import com.hivemq.client.mqtt.mqtt3.Mqtt3ClientBuilder;
import com.hivemq.client.mqtt.mqtt3.message.connect.Mqtt3ConnectBuilder;
import com.hivemq.client.mqtt.mqtt3.message.connect.connack.Mqtt3ConnAck;
import com.hivemq.client.mqtt.mqtt3.message.publish.Mqtt3Publish;
import com.hivemq.client.mqtt.mqtt3.message.subscribe.suback.Mqtt3SubAck;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;

/** HiveMQ's client, MQTT 3.1.1. */
final class Hive3 extends Conversation.Client {
  private final Mqtt3AsyncClient client;
  private final boolean present;

  Hive3(Conversation.Connect connect) throws Exception {
    URI url = URI.create(connect.url());
    Mqtt3ClientBuilder builder =
        MqttClient.builder()
            .useMqttVersion3()
            .identifier(connect.id())
            .serverHost(url.getHost())
            .serverPort(url.getPort())
            .addDisconnectedListener(context -> closed.countDown());
    if (url.getScheme().equals("ws")) {
      builder = builder.webSocketConfig().serverPath(url.getPath()).applyWebSocketConfig();
    }
    client = builder.buildAsync();
    client.publishes(MqttGlobalPublishFilter.ALL, this::received);
    Mqtt3ConnectBuilder.Send<java.util.concurrent.CompletableFuture<Mqtt3ConnAck>> start =
        client.connectWith().cleanSession(!connect.persist());
    if (connect.will() != null) {
      byte[] gone = "gone".getBytes(StandardCharsets.UTF_8);
      start = start.willPublish().topic(connect.will()).payload(gone).qos(MqttQos.AT_LEAST_ONCE).applyWillPublish();
    }
    present = start.send().get(Conversation.LIMIT_S, TimeUnit.SECONDS).isSessionPresent();
  }

  private void received(Mqtt3Publish got) {
    int qos = got.getQos().getCode();
    box(got.getTopic().toString())
        .add(new Conversation.Message(got.getPayloadAsBytes(), qos, got.isRetain(), null));
  }

  @Override
  boolean sessionPresent() {
    return present;
  }

  @Override
  void subscribe(String filter, int qos, Integer identifier) throws Exception {
    Mqtt3SubAck answer =
        client
            .subscribeWith()
            .topicFilter(filter)
            .qos(MqttQos.fromCode(qos))
            .send()
            .get(Conversation.LIMIT_S, TimeUnit.SECONDS);
    Conversation.check(answer.getReturnCodes().get(0).getCode() == qos, "granted", answer);
  }

  @Override
  void publish(String topic, byte[] payload, int qos, boolean retained, Conversation.Properties properties)
      throws Exception {
    client
        .publishWith()
        .topic(topic)
        .payload(payload)
        .qos(MqttQos.fromCode(qos))
        .retain(retained)
        .send()
        .get(Conversation.LIMIT_S, TimeUnit.SECONDS);
  }

  @Override
  void end() throws Exception {
    client.disconnect().get(Conversation.LIMIT_S, TimeUnit.SECONDS);
  }
}
