// The conversation of `tests/real/README.md` with Eclipse Paho for Go: paho.mqtt.golang speaks 3.1.1, paho.golang 5.
//
//	conversation URL VERSION NAME STEP...      prints each step when it is done
package main

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"time"
)

const limit = 15 * time.Second

var url, version, name string

// What a client is asked to connect with.
type connect struct {
	id      string
	persist bool
	will    string
}

type message struct {
	payload  []byte
	qos      byte
	retained bool
	with     *properties
}

// The properties that the conversation is about.
type properties struct {
	colour, contentType, responseTopic string
	correlation                        []byte
	identifier                         int
}

// A connected client. Each panics if something fails.
type client interface {
	sessionPresent() bool
	subscribe(filter string, qos byte, identifier int)
	publish(topic string, payload []byte, qos byte, retained bool, with *properties)
	closed() <-chan struct{}
	end()
	// Where messages go to.
	box() *inbox
}

// Messages by topic, in their order.
type inbox struct {
	lock  sync.Mutex
	boxes map[string]chan message
}

func (in *inbox) of(topic string) chan message {
	in.lock.Lock()
	defer in.lock.Unlock()
	if in.boxes == nil {
		in.boxes = map[string]chan message{}
	}
	if in.boxes[topic] == nil {
		in.boxes[topic] = make(chan message, 100)
	}
	return in.boxes[topic]
}

func open(what connect) client {
	what.id = name + "-" + what.id
	if version == "5" {
		return open5(what)
	}
	return open4(what)
}

func take(c client, topic string) message {
	return await(topic, c.box().of(topic))
}

func await[T any](what string, from <-chan T) T {
	select {
	case got := <-from:
		return got
	case <-time.After(limit):
		panic("no " + what + " within " + limit.String())
	}
}

func topic(rest string) string { return name + "/" + rest }

func check(holds bool, what string, got any) {
	if !holds {
		panic(fmt.Sprintf("not %s: %+v", what, got))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func qos(main client) {
	main.subscribe(topic("qos/+"), 2, 0)
	for qos := byte(0); qos < 3; qos++ {
		data := bytes.Repeat([]byte{0, 'a' + qos, 255}, 400)
		name := topic(fmt.Sprintf("qos/%d", qos))
		main.publish(name, data, qos, false, nil)
		got := take(main, name)
		check(got.qos == qos && !got.retained && bytes.Equal(got.payload, data), "as it was published", got)
	}
}

func retained(main client) {
	main.publish(topic("kept"), []byte("kept"), 1, true, nil)
	late := open(connect{id: "late"})
	late.subscribe(topic("kept"), 1, 0)
	got := take(late, topic("kept"))
	check(got.retained && string(got.payload) == "kept", "the retained message", got)
	main.publish(topic("kept"), nil, 1, true, nil)
	late.end()
}

func session(main client) {
	first := open(connect{id: "session", persist: true})
	check(!first.sessionPresent(), "a new session", nil)
	first.subscribe(topic("later/#"), 2, 0)
	first.end()
	main.publish(topic("later/1"), []byte("one"), 1, false, nil)
	main.publish(topic("later/2"), []byte("two"), 2, false, nil)
	second := open(connect{id: "session", persist: true})
	check(second.sessionPresent(), "present", nil)
	for n, wanted := range []string{"one", "two"} {
		got := take(second, topic(fmt.Sprintf("later/%d", n+1)))
		check(string(got.payload) == wanted, "the missed message", got)
	}
	second.end()
	last := open(connect{id: "session"})
	check(!last.sessionPresent(), "forgotten", nil)
	last.end()
}

func will(main client) {
	main.subscribe(topic("will"), 1, 0)
	dying := open(connect{id: "dying", will: topic("will")})
	// A second connection of the same client: the broker ends the first one, which said no goodbye.
	heir := open(connect{id: "dying"})
	got := take(main, topic("will"))
	check(string(got.payload) == "gone", "the will", got)
	await("end of the first connection", dying.closed())
	heir.end()
}

func withProperties(main client) {
	main.subscribe(topic("properties"), 1, 7)
	sent := properties{"green", "text/plain", topic("answer"), []byte("c1"), 0}
	main.publish(topic("properties"), []byte("with"), 1, false, &sent)
	got := take(main, topic("properties")).with
	wanted := sent
	wanted.identifier = 7
	check(fmt.Sprint(*got) == fmt.Sprint(wanted), "the properties", got)
}

func shared(main client) {
	members := []client{open(connect{id: "member-a"}), open(connect{id: "member-b"})}
	for _, member := range members {
		member.subscribe("$share/group/"+topic("shared"), 1, 0)
	}
	left := map[string]bool{}
	for n := 0; n < 10; n++ {
		data := fmt.Sprintf("shared %d", n)
		left[data] = true
		main.publish(topic("shared"), []byte(data), 1, false, nil)
	}
	one, other := members[0].box().of(topic("shared")), members[1].box().of(topic("shared"))
	for len(left) > 0 {
		var got message
		select {
		case got = <-one:
		case got = <-other:
		case <-time.After(limit):
			panic(fmt.Sprintf("not delivered: %v", left))
		}
		check(left[string(got.payload)], "each once", got)
		delete(left, string(got.payload))
	}
	for _, member := range members {
		member.end()
	}
}

func main() {
	url, version, name = os.Args[1], os.Args[2], os.Args[3]
	steps := map[string]func(client){
		"qos": qos, "retained": retained, "session": session, "will": will,
		"properties": withProperties, "shared": shared,
	}
	main := open(connect{id: "main"})
	for _, step := range os.Args[4:] {
		steps[step](main)
		fmt.Println(step)
	}
	main.end()
}
