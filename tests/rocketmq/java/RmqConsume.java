import java.io.PrintStream;
import java.util.Base64;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Consumes topics with the official client and prints one line of JSON for each message, in the order of each queue:
 * topic, queueId, queueOffset, keys, tags, UNIQ_KEY, properties, and the body in base64.
 *
 * <pre>RmqConsume NAME_SERVER GROUP COUNT TOPIC...</pre>
 *
 * Ends after COUNT messages; 0: runs until it is killed. Prints "ready" on stderr once it is started.
 */
public final class RmqConsume {
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
        long count = Long.parseLong(args[2]);
        AtomicLong seen = new AtomicLong();
        MessageListenerOrderly listener = (messages, context) -> {
            for (MessageExt message : messages) {
                String line = line(message);
                synchronized (seen) {
                    out.println(line);
                    out.flush();
                    seen.incrementAndGet();
                    seen.notifyAll();
                }
            }
            return ConsumeOrderlyStatus.SUCCESS;
        };
        DefaultMQPushConsumer consumer = null;
        // On a busy machine the client gives up at its first request, after a second or less.
        for (int tries = 1; consumer == null; tries++) consumer = start(args, listener, tries == 10);
        System.err.println("ready");
        synchronized (seen) {
            while (count == 0 || seen.get() < count) seen.wait();
        }
        consumer.shutdown();
    }

    /** A consumer that is started; null if it could not be and this was not the last try. */
    private static DefaultMQPushConsumer start(String[] args, MessageListenerOrderly listener, boolean last)
        throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(args[1]);
        consumer.setNamesrvAddr(args[0]);
        consumer.setInstanceName("consume-" + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        for (int i = 3; i < args.length; i++) consumer.subscribe(args[i], "*");
        consumer.registerMessageListener(listener);
        try {
            consumer.start();
            return consumer;
        } catch (Exception failure) {
            if (last) throw failure;
            failure.printStackTrace();
            consumer.shutdown();
            return null;
        }
    }

    private static String line(MessageExt message) {
        Map<String, String> properties = new TreeMap<>(message.getProperties());
        StringBuilder out = new StringBuilder("{\"topic\":").append(text(message.getTopic()));
        out.append(",\"queueId\":").append(message.getQueueId());
        out.append(",\"queueOffset\":").append(message.getQueueOffset());
        out.append(",\"keys\":").append(text(message.getKeys()));
        out.append(",\"tags\":").append(text(message.getTags()));
        out.append(",\"UNIQ_KEY\":").append(text(properties.get("UNIQ_KEY")));
        out.append(",\"properties\":{");
        String separator = "";
        for (Map.Entry<String, String> property : properties.entrySet()) {
            out.append(separator).append(text(property.getKey())).append(':').append(text(property.getValue()));
            separator = ",";
        }
        out.append("},\"body\":\"").append(Base64.getEncoder().encodeToString(message.getBody())).append("\"}");
        return out.toString();
    }

    private static String text(String value) {
        if (value == null) return "null";
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20 || c > 0x7e) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }
}
