import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5ClientBuilder;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5Connect;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5ConnectBuilder;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5Publish;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishBuilder;
import com.hivemq.client.mqtt.mqtt5.message.publish.Mqtt5PublishResult;
import com.hivemq.client.mqtt.mqtt5.message.subscribe.suback.Mqtt5SubAck;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;

/** HiveMQ's client, MQTT 5. */
final class Hive5 extends Conversation.Client {
  private final Mqtt5AsyncClient client;
  private final boolean present;

  Hive5(Conversation.Connect connect) throws Exception {
    URI url = URI.create(connect.url());
    Mqtt5ClientBuilder builder =
        MqttClient.builder()
            .useMqttVersion5()
            .identifier(connect.id())
            .serverHost(url.getHost())
            .serverPort(url.getPort())
            .addDisconnectedListener(context -> closed.countDown());
    if (url.getScheme().equals("ws")) {
      builder = builder.webSocketConfig().serverPath(url.getPath()).applyWebSocketConfig();
    }
    client = builder.buildAsync();
    client.publishes(MqttGlobalPublishFilter.ALL, this::received);
    Mqtt5ConnectBuilder start = Mqtt5Connect.builder().cleanStart(!connect.persist());
    if (connect.persist()) {
      start = start.sessionExpiryInterval(60);
    }
    if (connect.will() != null) {
      byte[] gone = "gone".getBytes(StandardCharsets.UTF_8);
      start = start.willPublish().topic(connect.will()).payload(gone).qos(MqttQos.AT_LEAST_ONCE).applyWillPublish();
    }
    present = client.connect(start.build()).get(Conversation.LIMIT_S, TimeUnit.SECONDS).isSessionPresent();
  }

  private void received(Mqtt5Publish got) {
    var colours = got.getUserProperties().asList();
    Conversation.Properties properties =
        new Conversation.Properties(
            colours.isEmpty() ? null : colours.get(0).getValue().toString(),
            got.getContentType().map(Object::toString).orElse(null),
            got.getResponseTopic().map(Object::toString).orElse(null),
            got.getCorrelationData().map(data -> StandardCharsets.UTF_8.decode(data).toString()).orElse(null),
            null);
    int qos = got.getQos().getCode();
    box(got.getTopic().toString())
        .add(new Conversation.Message(got.getPayloadAsBytes(), qos, got.isRetain(), properties));
  }

  @Override
  boolean sessionPresent() {
    return present;
  }

  @Override
  void subscribe(String filter, int qos, Integer identifier) throws Exception {
    Mqtt5SubAck answer =
        client
            .subscribeWith()
            .topicFilter(filter)
            .qos(MqttQos.fromCode(qos))
            .send()
            .get(Conversation.LIMIT_S, TimeUnit.SECONDS);
    Conversation.check(answer.getReasonCodes().get(0).getCode() == qos, "granted", answer);
  }

  @Override
  void publish(String topic, byte[] payload, int qos, boolean retained, Conversation.Properties properties)
      throws Exception {
    Mqtt5PublishBuilder.Complete publish =
        Mqtt5Publish.builder().topic(topic).payload(payload).qos(MqttQos.fromCode(qos)).retain(retained);
    if (properties != null) {
      publish =
          publish
              .contentType(properties.contentType())
              .responseTopic(properties.responseTopic())
              .correlationData(properties.correlation().getBytes(StandardCharsets.UTF_8))
              .userProperties()
              .add("colour", properties.colour())
              .applyUserProperties();
    }
    Mqtt5PublishResult result = client.publish(publish.build()).get(Conversation.LIMIT_S, TimeUnit.SECONDS);
    Conversation.check(result.getError().isEmpty(), "published", result);
  }

  @Override
  void end() throws Exception {
    client.disconnect().get(Conversation.LIMIT_S, TimeUnit.SECONDS);
  }
}
