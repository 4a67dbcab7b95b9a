// node node.js URL VERSION NAME STEP...      prints each step when it is done
import mqtt from "mqtt";
import { converse } from "./conversation.js";

const [url, version, name, ...steps] = process.argv.slice(2);
await converse(mqtt, url, Number(version), name, steps, (step) => console.log(step));
process.exit(0);
