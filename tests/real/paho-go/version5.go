package main

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

type client5 struct {
	inner   *paho.Client
	present bool
	in      inbox
}

func dial() net.Conn {
	if address, plain := strings.CutPrefix(url, "mqtt://"); plain {
		conn, err := net.Dial("tcp", address)
		must(err)
		return packets.NewThreadSafeConn(conn)
	}
	conn, err := mqtt.NewWebsocket(url, nil, limit, http.Header{}, nil)
	must(err)
	return packets.NewThreadSafeConn(conn)
}

func open5(what connect) client {
	c := &client5{}
	receive := func(got paho.PublishReceived) (bool, error) {
		packet := got.Packet
		with := properties{
			packet.Properties.User.Get("colour"), packet.Properties.ContentType, packet.Properties.ResponseTopic,
			packet.Properties.CorrelationData, 0,
		}
		if packet.Properties.SubscriptionIdentifier != nil {
			with.identifier = *packet.Properties.SubscriptionIdentifier
		}
		c.in.of(packet.Topic) <- message{packet.Payload, packet.QoS, packet.Retain, &with}
		return true, nil
	}
	c.inner = paho.NewClient(paho.ClientConfig{
		Conn:              dial(),
		PacketTimeout:     limit,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){receive},
	})
	request := paho.Connect{ClientID: what.id, KeepAlive: 30, CleanStart: !what.persist}
	if what.persist {
		seconds := uint32(60)
		request.Properties = &paho.ConnectProperties{SessionExpiryInterval: &seconds}
	}
	if what.will != "" {
		request.WillMessage = &paho.WillMessage{QoS: 1, Topic: what.will, Payload: []byte("gone")}
	}
	answer, err := c.inner.Connect(context.Background(), &request)
	must(err)
	c.present = answer.SessionPresent
	return c
}

func (c *client5) subscribe(filter string, qos byte, identifier int) {
	request := paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: qos}}}
	if identifier != 0 {
		request.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &identifier}
	}
	answer, err := c.inner.Subscribe(context.Background(), &request)
	must(err)
	check(answer.Reasons[0] == qos, "granted", answer)
}

func (c *client5) publish(topic string, payload []byte, qos byte, retained bool, with *properties) {
	request := paho.Publish{Topic: topic, Payload: payload, QoS: qos, Retain: retained}
	if with != nil {
		request.Properties = &paho.PublishProperties{
			ContentType: with.contentType, ResponseTopic: with.responseTopic, CorrelationData: with.correlation,
			User: paho.UserProperties{{Key: "colour", Value: with.colour}},
		}
	}
	_, err := c.inner.Publish(context.Background(), &request)
	must(err)
}

func (c *client5) sessionPresent() bool    { return c.present }
func (c *client5) closed() <-chan struct{} { return c.inner.Done() }
func (c *client5) box() *inbox             { return &c.in }
func (c *client5) end()                    { must(c.inner.Disconnect(&paho.Disconnect{})) }
