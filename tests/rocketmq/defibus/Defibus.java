import com.webank.defibus.client.common.DeFiBusClientConfig;
import com.webank.defibus.client.impl.producer.RRCallback;
import com.webank.defibus.consumer.DeFiBusMessageListenerConcurrently;
import com.webank.defibus.consumer.DeFiBusMessageListenerConcurrentlyWithReply;
import com.webank.defibus.consumer.DeFiBusPushConsumer;
import com.webank.defibus.producer.DeFiBusProducer;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.impl.consumer.DefaultMQPushConsumerImpl;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * The published client of DeFiBus, in one role. Each line of standard input is a body; its end ends the client. Prints
 * "ready" when it is started, and has queues if it replies, then one line for each thing that happens: words, and the body last, with \n for a new line.
 *
 * <pre>
 * Defibus NAME_SERVER IDC publish TOPIC            sent BODY | failed REASON
 * Defibus NAME_SERVER IDC request TOPIC TIMEOUT    reply PROPERTIES BODY | none
 * Defibus NAME_SERVER IDC ask TOPIC TIMEOUT        the same, by callback
 * Defibus NAME_SERVER IDC consume TOPIC GROUP      got PROPERTIES BODY
 * Defibus NAME_SERVER IDC reply TOPIC GROUP        asked PROPERTIES BODY; answers "reply-to:BODY"
 * </pre>
 */
public final class Defibus {
    private static PrintStream out;

    public static void main(String[] args) {
        out = System.out;
        System.setOut(System.err); // the client logs to stdout
        try {
            run(args[0], args[1], args[2], args[3], args.length > 4 ? args[4] : "");
            System.exit(0);
        } catch (Throwable failure) {
            // Threads of the client would keep a failed process alive.
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void run(String nameServer, String idc, String role, String topic, String more) throws Exception {
        DeFiBusClientConfig config = new DeFiBusClientConfig();
        config.setNamesrvAddr(nameServer);
        config.setClusterPrefix(idc);
        config.setProducerGroup("PG-" + role);
        DeFiBusProducer producer = new DeFiBusProducer(config);
        producer.start();
        DeFiBusPushConsumer consumer = null;
        if (role.equals("consume") || role.equals("reply")) {
            config.setConsumerGroup(more);
            consumer = new DeFiBusPushConsumer(config);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.registerMessageListener(role.equals("reply") ? replying(producer) : listening());
            consumer.subscribe(topic);
            consumer.start();
            if (role.equals("reply")) awaitQueues(consumer);
        }
        say("ready");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            Message message = new Message(topic, line.replace("\\n", "\n").getBytes(StandardCharsets.UTF_8));
            if (role.equals("publish")) publish(producer, message);
            if (role.equals("request")) told(producer.request(message, Long.parseLong(more)));
            if (role.equals("ask")) ask(producer, message, Long.parseLong(more));
        }
        if (consumer != null) consumer.shutdown();
        producer.shutdown();
    }

    /** Its first share of the queues may come out empty, as the broker may not know it yet; the next one is 10 s later. */
    private static void awaitQueues(DeFiBusPushConsumer consumer) throws InterruptedException {
        DefaultMQPushConsumerImpl inner = consumer.getDefaultMQPushConsumer().getDefaultMQPushConsumerImpl();
        while (inner.getRebalanceImpl().getProcessQueueTable().isEmpty()) {
            consumer.getDeFiBusClientInstance().sendHeartbeatToAllBrokerWithLock();
            consumer.getDeFiBusClientInstance().rebalanceImmediately();
            Thread.sleep(100);
        }
    }

    private static void publish(DeFiBusProducer producer, Message message) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        producer.publish(message, new SendCallback() {
            @Override public void onSuccess(SendResult result) {
                say("sent " + body(message));
                done.countDown();
            }

            @Override public void onException(Throwable failure) {
                say("failed " + failure);
                done.countDown();
            }
        });
        done.await();
    }

    private static void ask(DeFiBusProducer producer, Message message, long timeout) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        producer.request(message, new RRCallback() {
            @Override public void onSuccess(Message reply) {
                told(reply);
                done.countDown();
            }

            @Override public void onException(Throwable failure) {
                say("none");
                done.countDown();
            }
        }, timeout);
        done.await();
    }

    private static MessageListenerConcurrently listening() {
        return new DeFiBusMessageListenerConcurrently() {
            @Override public ConsumeConcurrentlyStatus handleMessage(
                List<MessageExt> messages, ConsumeConcurrentlyContext context) {
                for (MessageExt message : messages) say("got " + properties(message) + " " + body(message));
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
        };
    }

    private static MessageListenerConcurrently replying(DeFiBusProducer producer) {
        return new DeFiBusMessageListenerConcurrentlyWithReply(producer) {
            @Override public String handleMessage(MessageExt message, ConsumeConcurrentlyContext context) {
                say("asked " + properties(message) + " " + body(message));
                return "reply-to:" + new String(message.getBody(), StandardCharsets.UTF_8);
            }
        };
    }

    private static void told(Message reply) {
        say(reply == null ? "none" : "reply " + properties(reply) + " " + body(reply));
    }

    private static String properties(Message message) {
        StringBuilder text = new StringBuilder();
        new TreeMap<>(message.getProperties()).forEach((name, value) ->
            text.append(text.length() == 0 ? "" : "&").append(name).append('=').append(value.replace(' ', '+')));
        return text.toString();
    }

    private static String body(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8).replace("\n", "\\n");
    }

    private static synchronized void say(String line) {
        out.println(line);
        out.flush();
    }
}
