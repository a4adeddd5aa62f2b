// Azurite for the tests: does what it is told on stdin, and ends when stdin does, so that none outlives its test binary,
// however that ended.
//
//   pause   requests are taken and not answered
//   resume  those that waited are answered, and all others again

const http = require("node:http");
const readline = require("node:readline");

let paused = false;
let waiting = [];
const servers = [];

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, ...values) {
  if (paused && event === "request") {
    waiting.push(() => emit.call(this, event, ...values));
    return true;
  }
  if (event === "listening") {
    servers.push(this);
  }
  return emit.call(this, event, ...values);
};

const commands = readline.createInterface({ input: process.stdin });
commands.on("line", (command) => {
  paused = command === "pause";
  if (!paused) {
    const held = waiting;
    waiting = [];
    held.forEach((answer) => answer());
  }
  console.log(`${command} done`);
});
// Nobody reads what it says at the end.
process.stdout.on("error", () => {});
commands.on("close", () => {
  // Azurite writes its data to disk when it is asked to end, once no connection is open. The timer is for when it cannot.
  if (!process.emit("SIGTERM", "SIGTERM")) {
    process.exit(0);
  }
  servers.forEach((server) => server.closeAllConnections());
  setTimeout(() => process.exit(0), 5000).unref();
});

require("azurite/dist/src/azurite.js");
