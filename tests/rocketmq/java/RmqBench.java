import java.lang.management.ManagementFactory;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

/**
 * Sends COUNT messages of SIZE bytes with the official client, WINDOW of them under way, and prints how long that took and
 * what CPU time this process used for it, in seconds: first a round to get warm, then one that counts.
 *
 * <pre>RmqBench NAME_SERVER TOPIC COUNT SIZE WINDOW</pre>
 */
public final class RmqBench {
    public static void main(String[] args) throws Exception {
        int count = Integer.parseInt(args[2]), window = Integer.parseInt(args[4]);
        byte[] body = new byte[Integer.parseInt(args[3])];
        DefaultMQProducer producer = new DefaultMQProducer("weft-bench");
        producer.setNamesrvAddr(args[0]);
        producer.setSendMsgTimeout(10_000);
        producer.start();
        producer.send(new Message(args[1], body));
        round(producer, args[1], body, count, window);
        long cpu = cpu(), start = System.nanoTime();
        int failed = round(producer, args[1], body, count, window);
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf("RESULT %f %f %d%n", seconds, (cpu() - cpu) / 1e9, failed);
        System.out.flush();
        System.exit(0);
    }

    private static int round(DefaultMQProducer producer, String topic, byte[] body, int count, int window)
        throws Exception {
        Semaphore room = new Semaphore(window);
        AtomicInteger failed = new AtomicInteger();
        for (int i = 0; i < count; i++) {
            room.acquire();
            producer.send(new Message(topic, body), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    room.release();
                }

                @Override
                public void onException(Throwable failure) {
                    failed.incrementAndGet();
                    room.release();
                }
            });
        }
        room.acquire(window);
        return failed.get();
    }

    private static long cpu() {
        return ((com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
            .getProcessCpuTime();
    }
}
