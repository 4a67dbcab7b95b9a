import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The conversation of {@code tests/real/README.md} with clients in Java.
 *
 * <p>{@code Conversation LIBRARY URL VERSION NAME STEP...}; LIBRARY is paho or hivemq. Prints each step when it is done.
 */
public final class Conversation {
  static final int LIMIT_S = 15;

  record Message(byte[] payload, int qos, boolean retained, Properties properties) {
    String text() {
      return new String(payload, StandardCharsets.UTF_8);
    }
  }

  record Properties(
      String colour, String contentType, String responseTopic, String correlation, List<Integer> identifiers) {}

  /** A connected client. Messages are taken by topic, in their order. */
  abstract static class Client {
    final CountDownLatch closed = new CountDownLatch(1);
    private final Map<String, BlockingQueue<Message>> boxes = new ConcurrentHashMap<>();

    abstract boolean sessionPresent();

    abstract void subscribe(String filter, int qos, Integer identifier) throws Exception;

    abstract void publish(String topic, byte[] payload, int qos, boolean retained, Properties properties)
        throws Exception;

    abstract void end() throws Exception;

    BlockingQueue<Message> box(String topic) {
      return boxes.computeIfAbsent(topic, any -> new LinkedBlockingQueue<>());
    }

    Message take(String topic) throws Exception {
      Message message = box(topic).poll(LIMIT_S, TimeUnit.SECONDS);
      check(message != null, "delivered", topic);
      return message;
    }

    void publish(String topic, String text, int qos) throws Exception {
      publish(topic, text.getBytes(StandardCharsets.UTF_8), qos, false, null);
    }
  }

  /** How a client is connected. */
  record Connect(String url, String id, boolean persist, String will) {}

  interface Library {
    Client open(Connect connect) throws Exception;
  }

  interface Step {
    void run() throws Exception;
  }

  private final Library library;
  private final String url;
  private final String name;
  private final Client main;

  private Conversation(Library library, String url, String name) throws Exception {
    this.library = library;
    this.url = url;
    this.name = name;
    this.main = open("main", false, null);
  }

  public static void main(String[] args) throws Exception {
    Library library =
        switch (args[0] + args[2]) {
          case "paho4" -> Paho3::new;
          case "paho5" -> Paho5::new;
          case "hivemq4" -> Hive3::new;
          case "hivemq5" -> Hive5::new;
          default -> throw new IllegalArgumentException(args[0] + " " + args[2]);
        };
    Conversation conversation = new Conversation(library, args[1], args[3]);
    Map<String, Step> steps =
        Map.of(
            "qos", conversation::qos,
            "retained", conversation::retained,
            "session", conversation::session,
            "will", conversation::will,
            "properties", conversation::properties,
            "shared", conversation::shared);
    for (String step : Arrays.asList(args).subList(4, args.length)) {
      steps.get(step).run();
      System.out.println(step);
    }
    conversation.main.end();
    System.exit(0);
  }

  private Client open(String id, boolean persist, String will) throws Exception {
    return library.open(new Connect(url, name + "-" + id, persist, will));
  }

  private String topic(String rest) {
    return name + "/" + rest;
  }

  static void check(boolean holds, String what, Object got) {
    if (!holds) {
      throw new AssertionError("not " + what + ": " + got);
    }
  }

  private void qos() throws Exception {
    main.subscribe(topic("qos/+"), 2, null);
    for (int qos = 0; qos < 3; qos++) {
      byte[] data = new byte[1000 * (qos + 1)];
      for (int n = 0; n < data.length; n++) {
        data[n] = (byte) (n + qos);
      }
      main.publish(topic("qos/" + qos), data, qos, false, null);
      Message got = main.take(topic("qos/" + qos));
      check(got.qos == qos && !got.retained && Arrays.equals(got.payload, data), "as it was published", got);
    }
  }

  private void retained() throws Exception {
    main.publish(topic("kept"), "kept".getBytes(StandardCharsets.UTF_8), 1, true, null);
    Client late = open("late", false, null);
    late.subscribe(topic("kept"), 1, null);
    Message got = late.take(topic("kept"));
    check(got.retained && got.text().equals("kept"), "the retained message", got);
    main.publish(topic("kept"), new byte[0], 1, true, null);
    late.end();
  }

  private void session() throws Exception {
    Client first = open("session", true, null);
    check(!first.sessionPresent(), "a new session", "");
    first.subscribe(topic("later/#"), 2, null);
    first.end();
    main.publish(topic("later/1"), "one", 1);
    main.publish(topic("later/2"), "two", 2);
    Client second = open("session", true, null);
    check(second.sessionPresent(), "present", "");
    check(second.take(topic("later/1")).text().equals("one"), "the first missed message", "");
    check(second.take(topic("later/2")).text().equals("two"), "the second missed message", "");
    second.end();
    Client last = open("session", false, null);
    check(!last.sessionPresent(), "forgotten", "");
    last.end();
  }

  private void will() throws Exception {
    main.subscribe(topic("will"), 1, null);
    Client dying = open("dying", false, topic("will"));
    // A second connection of the same client: the broker ends the first one, which said no goodbye.
    Client heir = open("dying", false, null);
    check(main.take(topic("will")).text().equals("gone"), "the will", "");
    check(dying.closed.await(LIMIT_S, TimeUnit.SECONDS), "taken over", "");
    heir.end();
  }

  private void properties() throws Exception {
    main.subscribe(topic("properties"), 1, 7);
    Properties sent = new Properties("green", "text/plain", topic("answer"), "c1", List.of());
    main.publish(topic("properties"), "with".getBytes(StandardCharsets.UTF_8), 1, false, sent);
    Properties got = main.take(topic("properties")).properties;
    // HiveMQ's client keeps the identifier to itself: it is how it finds the flow that the message is for.
    check(got.identifiers == null || got.identifiers.equals(List.of(7)), "the subscription identifier", got);
    Properties rest =
        new Properties(got.colour, got.contentType, got.responseTopic, got.correlation, List.of());
    check(rest.equals(sent), "the properties", got);
  }

  private void shared() throws Exception {
    List<Client> members = List.of(open("member-a", false, null), open("member-b", false, null));
    for (Client member : members) {
      member.subscribe("$share/group/" + topic("shared"), 1, null);
    }
    Set<String> left = new HashSet<>();
    for (int n = 0; n < 10; n++) {
      left.add("shared " + n);
      main.publish(topic("shared"), "shared " + n, 1);
    }
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
    while (!left.isEmpty()) {
      check(System.nanoTime() < end, "delivered", left);
      for (Client member : members) {
        Message got = member.box(topic("shared")).poll(10, TimeUnit.MILLISECONDS);
        check(got == null || left.remove(got.text()), "each once", got);
      }
    }
    for (Client member : members) {
      member.end();
    }
  }
}
