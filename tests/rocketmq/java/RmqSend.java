import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * Sends each line of stdin with the official client and prints one line of JSON for each: status, msgId and queueId.
 *
 * <pre>
 * RmqSend NAME_SERVER TOPIC [TAGS=a] [KEYS=k] [NAME=VALUE]...
 * RmqSend NAME_SERVER    each line has all of it, with tabs between: TOPIC, properties, and the body at its end
 * </pre>
 *
 * All lines go to one queue of their topic, so that their order is the topic's.
 */
public final class RmqSend {
    public static void main(String[] args) {
        try {
            run(args);
            System.exit(0);
        } catch (Exception failure) {
            // Threads of the client would keep a failed process alive.
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void run(String[] args) throws Exception {
        PrintStream out = System.out;
        System.setOut(System.err); // the 4.9 client logs to stdout
        DefaultMQProducer producer = new DefaultMQProducer("weft-tests-send");
        producer.setNamesrvAddr(args[0]);
        producer.setInstanceName("send-" + System.nanoTime());
        producer.setRetryTimesWhenSendFailed(10);
        // For all tries of a message; and for one question to a name server. A machine may be busy.
        producer.setSendMsgTimeout(20_000);
        producer.setMqClientApiTimeout(20_000);
        producer.start();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Map<String, MessageQueue> queues = new HashMap<>();
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = args.length > 1 ? args : (args[0] + "\t" + line).split("\t", -1);
            int properties = args.length > 1 ? args.length : parts.length - 1;
            String body = args.length > 1 ? line : parts[properties];
            Message message = new Message(parts[1], body.getBytes(StandardCharsets.UTF_8));
            for (int i = 2; i < properties; i++) {
                String[] pair = parts[i].split("=", 2);
                if (pair[0].equals("TAGS")) message.setTags(pair[1]);
                else if (pair[0].equals("KEYS")) message.setKeys(pair[1]);
                else message.putUserProperty(pair[0], pair[1]);
            }
            MessageQueue queue = queues.get(parts[1]);
            SendResult sent = queue == null ? producer.send(message) : producer.send(message, queue);
            queues.put(parts[1], sent.getMessageQueue());
            out.println("{\"status\":\"" + sent.getSendStatus() + "\",\"msgId\":\"" + sent.getMsgId()
                + "\",\"queueId\":" + sent.getMessageQueue().getQueueId() + "}");
            out.flush();
        }
        producer.shutdown();
    }
}
