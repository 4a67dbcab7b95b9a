import java.nio.charset.StandardCharsets;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttClient;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** Eclipse Paho for Java, MQTT 3.1.1. */
final class Paho3 extends Conversation.Client implements MqttCallback {
  private final MqttClient client;
  private final boolean present;

  Paho3(Conversation.Connect connect) throws Exception {
    client = new MqttClient(connect.url().replace("mqtt:", "tcp:"), connect.id(), new MemoryPersistence());
    client.setTimeToWait(Conversation.LIMIT_S * 1000L);
    client.setCallback(this);
    MqttConnectOptions options = new MqttConnectOptions();
    options.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
    options.setCleanSession(!connect.persist());
    if (connect.will() != null) {
      options.setWill(connect.will(), "gone".getBytes(StandardCharsets.UTF_8), 1, false);
    }
    IMqttToken answer = client.connectWithResult(options);
    present = answer.getSessionPresent();
  }

  @Override
  boolean sessionPresent() {
    return present;
  }

  @Override
  void subscribe(String filter, int qos, Integer identifier) throws Exception {
    IMqttToken answer = client.subscribeWithResponse(filter, qos);
    Conversation.check(answer.getGrantedQos()[0] == qos, "granted", filter);
  }

  @Override
  void publish(String topic, byte[] payload, int qos, boolean retained, Conversation.Properties properties)
      throws Exception {
    client.publish(topic, payload, qos, retained);
  }

  @Override
  void end() throws Exception {
    client.disconnect();
    client.close();
  }

  @Override
  public void connectionLost(Throwable cause) {
    closed.countDown();
  }

  @Override
  public void messageArrived(String topic, MqttMessage message) {
    box(topic)
        .add(new Conversation.Message(message.getPayload(), message.getQos(), message.isRetained(), null));
  }

  @Override
  public void deliveryComplete(IMqttDeliveryToken token) {}
}
