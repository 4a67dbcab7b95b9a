# The CloudEvents MQTT protocol binding 1.0.2, clause by clause: what an implementation makes of an MQTT PUBLISH, and what it
# makes of an event. In the manner of the feature files for HTTP and Kafka in github.com/cloudevents/conformance.
#
# "§" is a clause of the binding. An implementation runs a scenario whose `When` it can do: who only receives leaves out
# "mapped to", who only sends leaves out "parsed as".

Feature: MQTT Protocol Binding

    The MQTT Protocol Binding for CloudEvents defines how events are mapped to MQTT 3.1.1 and MQTT 5.0 PUBLISH messages.

    Background:
    Given MQTT Protocol Binding is supported

    # §3.1: attributes are User Properties, the payload is the data, Content Type is datacontenttype.

    Scenario: MQTT 5.0, binary content mode
    Given an MQTT 5.0 message with payload:
        """
        {"message": "Hello World!"}
        """
    And Content Type "application/json"
    And User Properties:
        | key         | value                 |
        | specversion | 1.0                   |
        | id          | 1234-1234-1234        |
        | type        | com.example.someevent |
        | source      | /mycontext/subcontext |
        | time        | 2018-04-05T03:56:24Z  |
    When parsed as MQTT message
    Then the attributes are:
        | key             | value                 |
        | specversion     | 1.0                   |
        | id              | 1234-1234-1234        |
        | type            | com.example.someevent |
        | source          | /mycontext/subcontext |
        | time            | 2018-04-05T03:56:24Z  |
        | datacontenttype | application/json      |
    And the data is equal to the following JSON:
        """
        {"message": "Hello World!"}
        """

    Scenario: MQTT 5.0, binary content mode, every optional attribute and extensions (§3.1.3)
    Given an MQTT 5.0 message with payload:
        """
        20.5
        """
    And Content Type "text/plain; charset=utf-8"
    And User Properties:
        | key         | value                       |
        | source      | //sensors/tn-1234567/alerts |
        | type        | com.example.heat            |
        | specversion | 1.0                         |
        | id          | 7                           |
        | subject     | hall/3                      |
        | dataschema  | https://example.com/heat/2  |
        | time        | 2018-04-05T03:56:24.123456Z |
        | traceparent | 00-0af7651916cd43dd-01      |
        | 5x9         | an extension                |
    When parsed as MQTT message
    Then the attributes are:
        | key             | value                       |
        | specversion     | 1.0                         |
        | id              | 7                           |
        | type            | com.example.heat            |
        | source          | //sensors/tn-1234567/alerts |
        | subject         | hall/3                      |
        | dataschema      | https://example.com/heat/2  |
        | time            | 2018-04-05T03:56:24.123456Z |
        | datacontenttype | text/plain; charset=utf-8   |
        | traceparent     | 00-0af7651916cd43dd-01      |
        | 5x9             | an extension                |
    And the data is equal to the following text:
        """
        20.5
        """

    Scenario Outline: MQTT 5.0, binary content mode, Content Type is datacontenttype as it is (<contentType>, §3.1.1)
    Given an MQTT 5.0 message with payload bytes "7b 7d"
    And Content Type "<contentType>"
    And User Properties:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | type        | t     |
        | source      | /s    |
    When parsed as MQTT message
    Then the attributes are:
        | key             | value         |
        | specversion     | 1.0           |
        | id              | 1             |
        | type            | t             |
        | source          | /s            |
        | datacontenttype | <contentType> |
    And the data is the bytes "7b 7d"
    Examples:
    | contentType                     |
    | application/json; charset=utf-8 |
    | application/octet-stream        |
    | application/vnd.example+json    |
    | text/xml                        |

    Scenario: MQTT 5.0, binary content mode without Content Type (§3.1.1)
    Given an MQTT 5.0 message with payload:
        """
        {"t": 1}
        """
    And User Properties:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | type        | t     |
        | source      | /s    |
    When parsed as MQTT message
    Then the attributes are:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | type        | t     |
        | source      | /s    |
    And the data is equal to the following JSON:
        """
        {"t": 1}
        """

    # The example of §3.1.4 has datacontenttype in both places.
    Scenario: MQTT 5.0, binary content mode, datacontenttype among the User Properties as well (§3.1.4)
    Given an MQTT 5.0 message with payload:
        """
        {"t": 1}
        """
    And Content Type "application/json; charset=utf-8"
    And User Properties:
        | key             | value                           |
        | specversion     | 1.0                             |
        | type            | com.example.someevent           |
        | time            | 2018-04-05T03:56:24Z            |
        | id              | 1234-1234-1234                  |
        | source          | /mycontext/subcontext           |
        | datacontenttype | application/json; charset=utf-8 |
    When parsed as MQTT message
    Then the attributes are:
        | key             | value                           |
        | specversion     | 1.0                             |
        | type            | com.example.someevent           |
        | time            | 2018-04-05T03:56:24Z            |
        | id              | 1234-1234-1234                  |
        | source          | /mycontext/subcontext           |
        | datacontenttype | application/json; charset=utf-8 |
    And the data is equal to the following JSON:
        """
        {"t": 1}
        """

    # MQTT strings are UTF-8: unlike in HTTP nothing is percent-encoded, nor decoded.
    Scenario: MQTT 5.0, binary content mode, attributes are UTF-8 (§3.1.3.2)
    Given an MQTT 5.0 message with payload bytes "00"
    And User Properties:
        | key         | value               |
        | specversion | 1.0                 |
        | id          | Œuvre-世界-😀       |
        | type        | größe               |
        | source      | /a%20b/%C3%A4       |
        | subject     | 100 % "so" \ Ελλάδα |
        | note        | a=b; c, d           |
    When parsed as MQTT message
    Then the attributes are:
        | key         | value               |
        | specversion | 1.0                 |
        | id          | Œuvre-世界-😀       |
        | type        | größe               |
        | source      | /a%20b/%C3%A4       |
        | subject     | 100 % "so" \ Ελλάδα |
        | note        | a=b; c, d           |
    And the data is the bytes "00"

    Scenario: MQTT 5.0, binary content mode, the payload is the data byte for byte (§3.1.2)
    Given an MQTT 5.0 message with payload bytes "00 ff fe 80 0d 0a 22 7b"
    And Content Type "application/octet-stream"
    And User Properties:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | type        | t     |
        | source      | /s    |
    When parsed as MQTT message
    Then the data is the bytes "00 ff fe 80 0d 0a 22 7b"

    Scenario: MQTT 5.0, binary content mode without data (§3.1.2)
    Given an MQTT 5.0 message without payload
    And User Properties:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | type        | t     |
        | source      | /s    |
    When parsed as MQTT message
    Then the attributes are:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | type        | t     |
        | source      | /s    |
    And there is no data

    # §3.2: the payload is the event in an event format, which Content Type names.

    Scenario Outline: MQTT 5.0, structured content mode (<contentType>)
    Given an MQTT 5.0 message with payload:
        """
        {
            "specversion": "1.0",
            "type": "com.example.someevent",
            "time": "2018-04-05T03:56:24Z",
            "id": "1234-1234-1234",
            "source": "/mycontext/subcontext",
            "datacontenttype": "application/json",
            "myextension": "größe",
            "data": {
                "message": "Hello World!"
            }
        }
        """
    And Content Type "<contentType>"
    When parsed as MQTT message
    Then the attributes are:
        | key             | value                 |
        | specversion     | 1.0                   |
        | id              | 1234-1234-1234        |
        | type            | com.example.someevent |
        | source          | /mycontext/subcontext |
        | time            | 2018-04-05T03:56:24Z  |
        | datacontenttype | application/json      |
        | myextension     | größe                 |
    And the data is equal to the following JSON:
        """
        {"message": "Hello World!"}
        """
    Examples:
    | contentType                                 |
    | application/cloudevents+json                |
    | application/cloudevents+json; charset=utf-8 |
    | application/cloudevents+json;charset=UTF-8  |
    | Application/CloudEvents+JSON                |

    Scenario: MQTT 5.0, structured content mode, binary data
    Given an MQTT 5.0 message with payload:
        """
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "image/png", "data_base64": "AP+A"}
        """
    And Content Type "application/cloudevents+json"
    When parsed as MQTT message
    Then the attributes are:
        | key             | value     |
        | specversion     | 1.0       |
        | id              | 1         |
        | source          | /s        |
        | type            | t         |
        | datacontenttype | image/png |
    And the data is the bytes "00 ff 80"

    Scenario: MQTT 5.0, structured content mode without data
    Given an MQTT 5.0 message with payload:
        """
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
        """
    And Content Type "application/cloudevents+json"
    When parsed as MQTT message
    Then the attributes are:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | source      | /s    |
        | type        | t     |
    And there is no data

    # They say again what the payload says: the event does not have them twice.
    Scenario: MQTT 5.0, structured content mode with the User Properties of binary mode (§3.2.3)
    Given an MQTT 5.0 message with payload:
        """
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "subject": "x", "myextension": 5, "data": [1, 2]}
        """
    And Content Type "application/cloudevents+json"
    And User Properties:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | source      | /s    |
        | type        | t     |
        | subject     | x     |
        | myextension | 5     |
    When parsed as MQTT message
    Then the attributes are:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | source      | /s    |
        | type        | t     |
        | subject     | x     |
        | myextension | 5     |
    And the data is equal to the following JSON:
        """
        [1, 2]
        """

    # §3: with MQTT 3.1.1 the content mode is always structured, the event format always JSON.

    Scenario: MQTT 3.1.1
    Given an MQTT 3.1.1 message with payload:
        """
        {
            "specversion": "1.0",
            "type": "com.example.someevent",
            "time": "2018-04-05T03:56:24Z",
            "id": "1234-1234-1234",
            "source": "/mycontext/subcontext",
            "datacontenttype": "application/json",
            "myextension": true,
            "data": {
                "message": "Hello World!"
            }
        }
        """
    When parsed as MQTT message
    Then the attributes are:
        | key             | value                 |
        | specversion     | 1.0                   |
        | id              | 1234-1234-1234        |
        | type            | com.example.someevent |
        | source          | /mycontext/subcontext |
        | time            | 2018-04-05T03:56:24Z  |
        | datacontenttype | application/json      |
        | myextension     | true                  |
    And the data is equal to the following JSON:
        """
        {"message": "Hello World!"}
        """

    Scenario: MQTT 3.1.1, text
    Given an MQTT 3.1.1 message with payload:
        """
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "text/plain", "data": "{\"a\": 1}"}
        """
    When parsed as MQTT message
    Then the attributes are:
        | key             | value      |
        | specversion     | 1.0        |
        | id              | 1          |
        | source          | /s         |
        | type            | t          |
        | datacontenttype | text/plain |
    And the data is equal to the following text:
        """
        {"a": 1}
        """

    # §3: a receiver may forward what has an event format it cannot handle.

    Scenario: MQTT 5.0, an event format that nobody knows
    Given an MQTT 5.0 message with payload bytes "4f 62 6a 01 00"
    And Content Type "application/cloudevents+unheardof"
    When parsed as MQTT message
    Then the message is passed on as it is

    Scenario: MQTT 5.0, an event format that nobody knows, with the User Properties of binary mode
    Given an MQTT 5.0 message with payload bytes "4f 62 6a 01 00"
    And Content Type "application/cloudevents+unheardof"
    And User Properties:
        | key         | value |
        | specversion | 1.0   |
        | id          | 1     |
        | source      | /s    |
        | type        | t     |
    When parsed as MQTT message
    Then the message is passed on as it is

    # §3: what lacks a mandatory attribute, or breaks the specification otherwise, is not a CloudEvent.

    Scenario: MQTT 5.0, no property at all
    Given an MQTT 5.0 message with payload:
        """
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
        """
    When parsed as MQTT message
    Then it is not a CloudEvent

    Scenario: MQTT 5.0, a Content Type that does not name an event format
    Given an MQTT 5.0 message with payload:
        """
        {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
        """
    And Content Type "application/json"
    When parsed as MQTT message
    Then it is not a CloudEvent

    # §3.1.3.1: names of attributes are used unchanged, without a prefix.
    Scenario Outline: MQTT 5.0, User Properties <specversion>, <id>, <source>, <type>
    Given an MQTT 5.0 message with payload bytes "31"
    And Content Type "application/json"
    And User Properties:
        | key           | value |
        | <specversion> | 1.0   |
        | <id>          | 1     |
        | <source>      | /s    |
        | <type>        | t     |
    When parsed as MQTT message
    Then it is not a CloudEvent
    Examples:
    | specversion    | id    | source    | type    |
    | other          | id    | source    | type    |
    | specversion    | other | source    | type    |
    | specversion    | id    | other     | type    |
    | specversion    | id    | source    | other   |
    | SpecVersion    | id    | source    | type    |
    | specversion    | ID    | source    | type    |
    | ce_specversion | ce_id | ce_source | ce_type |
    | ce-specversion | ce-id | ce-source | ce-type |

    Scenario Outline: MQTT 5.0, binary content mode, <name> is <value>
    Given an MQTT 5.0 message with payload bytes "31"
    And User Properties:
        | key         | value  |
        | specversion | <spec> |
        | id          | <id>   |
        | source      | <src>  |
        | type        | <type> |
        | time        | <time> |
    When parsed as MQTT message
    Then it is not a CloudEvent
    Examples:
    | name        | value           | spec | id | src | type | time                 |
    | specversion | not known       | 2.5  | 1  | /s  | t    | 2018-04-05T03:56:24Z |
    | specversion | empty           |      | 1  | /s  | t    | 2018-04-05T03:56:24Z |
    | id          | empty           | 1.0  |    | /s  | t    | 2018-04-05T03:56:24Z |
    | source      | empty           | 1.0  | 1  |     | t    | 2018-04-05T03:56:24Z |
    | type        | empty           | 1.0  | 1  | /s  |      | 2018-04-05T03:56:24Z |
    | time        | not a timestamp | 1.0  | 1  | /s  | t    | yesterday            |

    Scenario Outline: MQTT 5.0, structured content mode, the payload is <what>
    Given an MQTT 5.0 message with payload:
        """
        <payload>
        """
    And Content Type "application/cloudevents+json"
    When parsed as MQTT message
    Then it is not a CloudEvent
    Examples:
    | what                 | payload                                                          |
    | not JSON             | hello                                                            |
    | not an object        | [1]                                                              |
    | without id           | {"specversion": "1.0", "source": "/s", "type": "t"}              |
    | without source       | {"specversion": "1.0", "id": "1", "type": "t"}                   |
    | without type         | {"specversion": "1.0", "id": "1", "source": "/s"}                |
    | without specversion  | {"id": "1", "source": "/s", "type": "t"}                         |
    | of an empty id       | {"specversion": "1.0", "id": "", "source": "/s", "type": "t"}    |
    | cut off              | {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"    |

    Scenario Outline: MQTT 3.1.1, the payload is <what>
    Given an MQTT 3.1.1 message with payload:
        """
        <payload>
        """
    When parsed as MQTT message
    Then it is not a CloudEvent
    Examples:
    | what                | payload                                                        |
    | text                | hello                                                          |
    | another object      | {"t": 20, "specversion": 1}                                    |
    | without id          | {"specversion": "1.0", "source": "/s", "type": "t"}            |
    | without source      | {"specversion": "1.0", "id": "1", "type": "t"}                 |
    | without type        | {"specversion": "1.0", "id": "1", "source": "/s"}              |
    | without specversion | {"id": "1", "source": "/s", "type": "t"}                       |
    | cut off             | {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"  |

    # The other way: what an event becomes.

    Scenario: an event becomes an MQTT 5.0 message in binary content mode (§3.1)
    Given an event with attributes:
        | key             | value                           |
        | specversion     | 1.0                             |
        | id              | 1234-1234-1234                  |
        | type            | com.example.größe               |
        | source          | /mycontext/sub%20context        |
        | subject         | 世界 "100 %"                    |
        | time            | 2018-04-05T03:56:24Z            |
        | dataschema      | https://example.com/s           |
        | datacontenttype | application/json; charset=utf-8 |
        | myextension     | an extension                    |
    And data:
        """
        {"message":   "Hello World!"}
        """
    When mapped to an MQTT 5.0 message in binary content mode
    Then the Content Type is "application/json; charset=utf-8"
    And the User Properties are:
        | key         | value                    |
        | specversion | 1.0                      |
        | id          | 1234-1234-1234           |
        | type        | com.example.größe        |
        | source      | /mycontext/sub%20context |
        | subject     | 世界 "100 %"             |
        | time        | 2018-04-05T03:56:24Z     |
        | dataschema  | https://example.com/s    |
        | myextension | an extension             |
    And the payload is:
        """
        {"message":   "Hello World!"}
        """

    Scenario: attributes become their canonical string representation (§3.1.3.2)
    Given an event in JSON:
        """
        {
            "specversion": "1.0", "id": "1", "source": "/s", "type": "t",
            "anumber": -42, "thelargest": 2147483647, "yes": true, "no": false, "bytes": "AP+A",
            "datacontenttype": "image/png", "data_base64": "iVBORw=="
        }
        """
    When mapped to an MQTT 5.0 message in binary content mode
    Then the Content Type is "image/png"
    And the User Properties are:
        | key         | value      |
        | specversion | 1.0        |
        | id          | 1          |
        | source      | /s         |
        | type        | t          |
        | anumber     | -42        |
        | thelargest  | 2147483647 |
        | yes         | true       |
        | no          | false      |
        | bytes       | AP+A       |
    And the payload is the bytes "89 50 4e 47"

    Scenario: an event becomes an MQTT 3.1.1 message, in structured content mode (§3.2)
    Given an event with attributes:
        | key             | value                 |
        | specversion     | 1.0                   |
        | id              | 1234-1234-1234        |
        | type            | com.example.größe     |
        | source          | /mycontext/subcontext |
        | time            | 2018-04-05T03:56:24Z  |
        | datacontenttype | application/json      |
        | myextension     | an extension          |
    And data:
        """
        {"message": "Hello World!"}
        """
    When mapped to an MQTT 3.1.1 message
    Then the payload is equal to the following JSON:
        """
        {
            "specversion": "1.0",
            "id": "1234-1234-1234",
            "type": "com.example.größe",
            "source": "/mycontext/subcontext",
            "time": "2018-04-05T03:56:24Z",
            "datacontenttype": "application/json",
            "myextension": "an extension",
            "data": {"message": "Hello World!"}
        }
        """

    Scenario: an event of text becomes an MQTT 3.1.1 message (§3.2.2)
    Given an event with attributes:
        | key             | value      |
        | specversion     | 1.0        |
        | id              | 1          |
        | type            | t          |
        | source          | /s         |
        | datacontenttype | text/plain |
    And data:
        """
        {"not": "JSON here"}
        """
    When mapped to an MQTT 3.1.1 message
    Then the payload is equal to the following JSON:
        """
        {
            "specversion": "1.0", "id": "1", "type": "t", "source": "/s",
            "datacontenttype": "text/plain", "data": "{\"not\": \"JSON here\"}"
        }
        """
