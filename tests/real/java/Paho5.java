import java.nio.charset.StandardCharsets;
import java.util.List;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.MqttSubscription;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

/** Eclipse Paho for Java, MQTT 5. */
final class Paho5 extends Conversation.Client implements MqttCallback {
  private final MqttAsyncClient client;
  private final boolean present;

  Paho5(Conversation.Connect connect) throws Exception {
    client = new MqttAsyncClient(connect.url().replace("mqtt:", "tcp:"), connect.id(), new MemoryPersistence());
    client.setCallback(this);
    MqttConnectionOptions options = new MqttConnectionOptions();
    options.setCleanStart(!connect.persist());
    if (connect.persist()) {
      options.setSessionExpiryInterval(60L);
    }
    if (connect.will() != null) {
      options.setWill(connect.will(), new MqttMessage("gone".getBytes(StandardCharsets.UTF_8), 1, false, null));
    }
    present = wait(client.connect(options)).getSessionPresent();
  }

  private static IMqttToken wait(IMqttToken token) throws MqttException {
    token.waitForCompletion(Conversation.LIMIT_S * 1000L);
    return token;
  }

  @Override
  boolean sessionPresent() {
    return present;
  }

  @Override
  void subscribe(String filter, int qos, Integer identifier) throws Exception {
    MqttProperties properties = new MqttProperties();
    if (identifier != null) {
      properties.setSubscriptionIdentifier(identifier);
    }
    MqttSubscription[] wanted = {new MqttSubscription(filter, qos)};
    IMqttToken answer = wait(client.subscribe(wanted, null, null, properties));
    Conversation.check(answer.getReasonCodes()[0] == qos, "granted", filter);
  }

  @Override
  void publish(String topic, byte[] payload, int qos, boolean retained, Conversation.Properties properties)
      throws Exception {
    MqttMessage message = new MqttMessage(payload, qos, retained, new MqttProperties());
    if (properties != null) {
      MqttProperties sent = message.getProperties();
      sent.setUserProperties(List.of(new UserProperty("colour", properties.colour())));
      sent.setContentType(properties.contentType());
      sent.setResponseTopic(properties.responseTopic());
      sent.setCorrelationData(properties.correlation().getBytes(StandardCharsets.UTF_8));
    }
    wait(client.publish(topic, message));
  }

  @Override
  void end() throws Exception {
    wait(client.disconnect());
    client.close();
  }

  @Override
  public void disconnected(MqttDisconnectResponse response) {
    closed.countDown();
  }

  @Override
  public void messageArrived(String topic, MqttMessage message) {
    MqttProperties got = message.getProperties();
    String colour = got.getUserProperties().isEmpty() ? null : got.getUserProperties().get(0).getValue();
    byte[] correlation = got.getCorrelationData();
    Conversation.Properties properties =
        new Conversation.Properties(
            colour,
            got.getContentType(),
            got.getResponseTopic(),
            correlation == null ? null : new String(correlation, StandardCharsets.UTF_8),
            got.getSubscriptionIdentifiers());
    box(topic)
        .add(new Conversation.Message(message.getPayload(), message.getQos(), message.isRetained(), properties));
  }

  @Override
  public void mqttErrorOccurred(MqttException error) {}

  @Override
  public void deliveryComplete(IMqttToken token) {}

  @Override
  public void connectComplete(boolean reconnect, String server) {}

  @Override
  public void authPacketArrived(int reason, MqttProperties properties) {}
}
