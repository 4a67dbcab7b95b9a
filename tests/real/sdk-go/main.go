// The CloudEvents SDK for Go, told by lines of JSON on its input what to do (tests/src/real/sdk.rs).
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

type command struct {
	Do         string         `json:"do"`
	Mode       string         `json:"mode"`
	URL        string         `json:"url"`
	Attributes map[string]any `json:"attributes"`
	Data       any            `json:"data"`
	DataBase64 *string        `json:"data_base64"`
	Body       string         `json:"body"`
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var said command
		check(json.Unmarshal(line, &said))
		answer := map[string]func(command) any{"publish": publish, "read": read}[said.Do](said)
		text, err := json.Marshal(answer)
		check(err)
		fmt.Println(string(text))
	}
}

func publish(said command) any {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	event := eventOf(said)
	var request *http.Request
	var err error
	switch said.Mode {
	case "batched":
		request, err = cehttp.NewHTTPRequestFromEvents(ctx, said.URL, []cloudevents.Event{event})
	case "structured":
		request, err = cehttp.NewHTTPRequestFromEvent(binding.WithForceStructured(ctx), said.URL, event)
	default:
		request, err = cehttp.NewHTTPRequestFromEvent(binding.WithForceBinary(ctx), said.URL, event)
	}
	check(err)
	answer, err := http.DefaultClient.Do(request)
	check(err)
	check(answer.Body.Close())
	return map[string]any{"status": answer.StatusCode}
}

func eventOf(said command) cloudevents.Event {
	attributes := said.Attributes
	event := cloudevents.NewEvent()
	take := func(name string) string {
		value, _ := attributes[name].(string)
		delete(attributes, name)
		return value
	}
	event.SetSpecVersion(take("specversion"))
	event.SetID(take("id"))
	event.SetSource(take("source"))
	event.SetType(take("type"))
	event.SetSubject(take("subject"))
	event.SetDataSchema(take("dataschema"))
	at, err := time.Parse(time.RFC3339Nano, take("time"))
	check(err)
	event.SetTime(at)
	content := take("datacontenttype")
	for name, value := range attributes {
		if number, ok := value.(float64); ok {
			value = int32(number)
		}
		event.SetExtension(name, value)
	}
	switch {
	case said.DataBase64 != nil:
		bytes, err := base64.StdEncoding.DecodeString(*said.DataBase64)
		check(err)
		check(event.SetData(content, bytes))
	case content == "application/json":
		check(event.SetData(content, said.Data))
	case content != "":
		check(event.SetData(content, []byte(said.Data.(string))))
		// Text, not Base64, in the JSON form.
		event.DataBase64 = false
	}
	return event
}

func read(said command) any {
	event := cloudevents.NewEvent()
	check(json.Unmarshal([]byte(said.Body), &event))
	text, err := json.Marshal(event)
	check(err)
	var all map[string]any
	check(json.Unmarshal(text, &all))
	shown := map[string]any{}
	for _, name := range []string{"data", "data_base64"} {
		if value, ok := all[name]; ok {
			shown[name] = value
			delete(all, name)
		}
	}
	shown["attributes"] = all
	return shown
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
