import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.RequestTimeoutException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * One end of RocketMQ's request and reply with the official client.
 *
 * <pre>
 * RmqRpc NAME_SERVER serve TOPIC    answers each request with "reply to " and its body, and prints "asked BODY"
 * RmqRpc NAME_SERVER ask TOPIC MS   asks each line of its input; prints "reply BODY", or "none" after MS
 * </pre>
 *
 * Prints "ready" once it is started. The client 5.3.3 reports a time-out for every request it makes: ask with 4.9.7.
 */
public final class RmqRpc {
    public static void main(String[] args) {
        try {
            PrintStream out = System.out;
            System.setOut(System.err); // the 4.9 client logs to stdout
            DefaultMQProducer producer = new DefaultMQProducer("rpc-" + System.nanoTime());
            producer.setNamesrvAddr(args[0]);
            producer.setInstanceName("producer-" + System.nanoTime());
            producer.setSendMsgTimeout(20000);
            producer.start();
            if (args[1].equals("serve")) serve(args, producer, out);
            else ask(args, producer, out);
            System.exit(0);
        } catch (Exception failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void serve(String[] args, DefaultMQProducer producer, PrintStream out) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("serve-" + args[2]);
        consumer.setNamesrvAddr(args[0]);
        consumer.setInstanceName("consumer-" + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(args[2], "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt message : messages) {
                String body = new String(message.getBody(), StandardCharsets.UTF_8);
                print(out, "asked " + body);
                try {
                    byte[] reply = ("reply to " + body).getBytes(StandardCharsets.UTF_8);
                    producer.send(MessageUtil.createReplyMessage(message, reply));
                } catch (Exception failure) {
                    print(out, "failed " + failure);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        print(out, "ready");
        Thread.sleep(Long.MAX_VALUE);
    }

    private static void ask(String[] args, DefaultMQProducer producer, PrintStream out) throws Exception {
        print(out, "ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            try {
                Message request = new Message(args[2], line.getBytes(StandardCharsets.UTF_8));
                Message reply = producer.request(request, Long.parseLong(args[3]));
                print(out, "reply " + new String(reply.getBody(), StandardCharsets.UTF_8));
            } catch (RequestTimeoutException late) {
                print(out, "none");
            }
        }
    }

    private static void print(PrintStream out, String line) {
        synchronized (out) {
            out.println(line);
            out.flush();
        }
    }
}
