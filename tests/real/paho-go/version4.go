package main

import (
	"strings"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

type client4 struct {
	inner   mqtt.Client
	present bool
	in      inbox
	done    chan struct{}
}

func open4(what connect) client {
	c := &client4{done: make(chan struct{})}
	options := mqtt.NewClientOptions().SetProtocolVersion(4).SetClientID(what.id).SetConnectTimeout(limit)
	options.AddBroker(strings.Replace(url, "mqtt:", "tcp:", 1))
	options.SetAutoReconnect(false).SetCleanSession(!what.persist)
	options.SetConnectionLostHandler(func(mqtt.Client, error) { close(c.done) })
	options.SetDefaultPublishHandler(func(_ mqtt.Client, got mqtt.Message) {
		c.in.of(got.Topic()) <- message{got.Payload(), got.Qos(), got.Retained(), nil}
	})
	if what.will != "" {
		options.SetWill(what.will, "gone", 1, false)
	}
	c.inner = mqtt.NewClient(options)
	connected := c.inner.Connect()
	c.await("CONNACK", connected)
	c.present = connected.(*mqtt.ConnectToken).SessionPresent()
	return c
}

func (c *client4) await(what string, token mqtt.Token) {
	check(token.WaitTimeout(limit), what+" in time", nil)
	must(token.Error())
}

func (c *client4) subscribe(filter string, qos byte, _ int) {
	token := c.inner.Subscribe(filter, qos, nil)
	c.await("SUBACK", token)
	check(token.(*mqtt.SubscribeToken).Result()[filter] == qos, "granted", filter)
}

func (c *client4) publish(topic string, payload []byte, qos byte, retained bool, _ *properties) {
	c.await("the answer to PUBLISH", c.inner.Publish(topic, qos, retained, payload))
}

func (c *client4) sessionPresent() bool    { return c.present }
func (c *client4) closed() <-chan struct{} { return c.done }
func (c *client4) box() *inbox             { return &c.in }
func (c *client4) end()                    { c.inner.Disconnect(100) }
