"""`infra/deploy.sh` with an `az` and a `func` that write down what they were asked, and answer as Azure would."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from .arm import ROOT

AZ = """#!/bin/sh
echo "az $*" >> "$LOG"
case "$*" in
  'account show'*) exit "${NOT_LOGGED_IN:-0}" ;;
  'group exists'*) [ -e "$STATE/group" ] && echo true || echo false ;;
  'group create'*) : > "$STATE/group" ;;
  'keyvault list'*) [ -e "$STATE/deployed" ] && echo /subscriptions/s/vaults/vault-1 || true ;;
  'resource show --ids /subscriptions/s/vaults/vault-1/secrets/webhook-secret '*) echo 'the words of az' >&2; exit "${SECRET_SHOWN:-0}" ;;
  'deployment group show'*) echo "$*" | sed 's/.*outputs\\.\\([A-Za-z]*\\)\\.value.*/the-\\1/' ;;
  'deployment group create'*mainTemplate*) for each in "$@"; do last=$each; done
    cat "${last#@}" > "$STATE/secrets"; stat -c %a "${last#@}" > "$STATE/mode"; : > "$STATE/deployed" ;;
  'deployment group create'*|'deployment group what-if'*) ;;
  'functionapp keys list'*) [ -e "$STATE/warm" ] && echo 56 || { [ -n "$NEVER_WARM" ] || : > "$STATE/warm"; echo 0; } ;;
  *) echo "not expected: az $*" >&2; exit 99 ;;
esac
"""
FUNC = """#!/bin/sh
echo "func $* in $(basename "$PWD")" >> "$LOG"
"""


@unittest.skipUnless(shutil.which("bash") and os.name == "posix", "the script is one for bash")
class TheDeployment(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.log, self.state, self.bin = (self.folder / name for name in ("log", "state", "bin"))
        self.state.mkdir()
        self.bin.mkdir()
        for name, text in (("az", AZ), ("func", FUNC)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.package = self.folder / "linux-x86_64"
        self.package.mkdir()
        (self.package / "host.json").write_text("{}")
        self.parameters = self.folder / "parameters.json"
        self.parameters.write_text("{}")

    def deploy(self, *arguments, **environment):
        """Runs the script; returns what it said and what it asked for."""
        self.log.write_text("")
        asked = ["--resource-group", "group", "--parameters", self.parameters, "--package", self.package, *arguments]
        done = subprocess.run(
            [ROOT / "infra/deploy.sh", *asked],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": f"{self.bin}:{os.environ['PATH']}",
                "LOG": str(self.log),
                "STATE": str(self.state),
                "WARM_UP_PAUSE": "0",
                **environment,
            },
        )
        return done, self.log.read_text()

    def test_runs_infrastructure_package_warm_up_and_subscription_in_this_order(self):
        done, asked = self.deploy("--location", "westeurope")
        self.assertEqual(done.returncode, 0, done.stderr)
        steps = [
            "az group create --name group --location westeurope",
            "partner/mainTemplate.json",
            "func azure functionapp publish the-functionApp --custom --no-build in linux-x86_64",
            "az functionapp keys list",
            "partner/subscription.json --parameters functionApp=the-functionApp systemTopic=the-systemTopic "
            "hostStorage=the-hostStorage deadLetterContainer=the-deadLetterContainer dropContainer=the-dropContainer "
            "stateContainer=the-stateContainer",
        ]
        places = [asked.find(step) for step in steps]
        self.assertNotIn(-1, places, asked)
        self.assertEqual(places, sorted(places))

    def test_makes_a_webhook_secret_where_there_is_none_and_leaves_it_alone_where_there_is(self):
        done, _ = self.deploy("--location", "westeurope")
        self.assertEqual(done.returncode, 0, done.stderr)
        secret = json.loads((self.state / "secrets").read_text())["parameters"]["webhookSecret"]["value"]
        self.assertEqual(len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)), 32)
        done, asked = self.deploy()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads((self.state / "secrets").read_text())["parameters"], {})
        self.assertNotIn("group create --name", asked)

    def test_makes_no_second_secret_where_it_cannot_tell_whether_there_is_one(self):
        self.deploy("--location", "westeurope")
        done, asked = self.deploy(SECRET_SHOWN="1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot tell whether there is a webhook secret", done.stderr)
        self.assertIn("the words of az", done.stderr)
        self.assertNotIn("deployment group create", asked)

    def test_makes_the_secret_that_an_earlier_deployment_left_out(self):
        self.deploy("--location", "westeurope")
        done, _ = self.deploy(SECRET_SHOWN="3")
        self.assertEqual(done.returncode, 0, done.stderr)
        secret = json.loads((self.state / "secrets").read_text())["parameters"]["webhookSecret"]["value"]
        self.assertTrue(secret.startswith("whsec_"))
        self.assertNotIn("the words of az", done.stderr)

    def test_shows_secrets_in_no_argument_and_on_no_screen(self):
        done, asked = self.deploy(
            "--location", "westeurope", WEBHOOK_SECRET="whsec_Zm9v", PARTNER_APP_SECRET="p~a.s$s'word"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        parameters = json.loads((self.state / "secrets").read_text())["parameters"]
        self.assertEqual(parameters["webhookSecret"]["value"], "whsec_Zm9v")
        self.assertEqual(parameters["partnerAppSecret"]["value"], "p~a.s$s'word")
        self.assertEqual((self.state / "mode").read_text().strip(), "600")
        for secret in ("whsec_Zm9v", "p~a.s"):
            self.assertNotIn(secret, asked + done.stdout + done.stderr)

    def test_removes_the_file_of_secrets(self):
        _, asked = self.deploy("--location", "westeurope")
        files = [word[1:] for word in asked.split() if word.startswith("@") and word != f"@{self.parameters}"]
        self.assertTrue(files)
        self.assertFalse(any(os.path.exists(file) for file in files))

    def test_changes_nothing_where_it_is_asked_what_it_would_change(self):
        for group in (False, True):
            if group:
                (self.state / "group").touch()
            done, asked = self.deploy("--what-if")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotRegex(asked, "create|publish|func ")
            self.assertIs("what-if" in asked, group)

    def test_stops_where_something_is_missing(self):
        for spoil, status, said in (
            (lambda: (self.bin / "func").unlink(), 1, "func is not installed"),
            (lambda: (self.package / "host.json").unlink(), 1, "run make package first"),
            (lambda: self.parameters.unlink(), 2, "there is no file"),
        ):
            self.setUp()
            spoil()
            # Only what the script itself needs, so that a `func` of this machine does not stand in.
            tools = self.folder / "tools"
            tools.mkdir()
            for tool in ("bash", "dirname", "mktemp", "rm", "chmod", "env"):
                (tools / tool).symlink_to(shutil.which(tool))
            done, _ = self.deploy("--location", "westeurope", PATH=f"{self.bin}:{tools}")
            with self.subTest(said):
                self.assertEqual(done.returncode, status)
                self.assertIn(said, done.stderr)

    def test_stops_where_nobody_is_logged_in(self):
        done, asked = self.deploy("--location", "westeurope", NOT_LOGGED_IN="1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("run az login", done.stderr)
        self.assertNotIn("create", asked)

    def test_wants_a_region_for_a_new_resource_group_and_for_no_other(self):
        done, _ = self.deploy()
        self.assertEqual(done.returncode, 2)
        self.assertIn("--location is not given", done.stderr)

    def test_stops_before_the_subscription_where_the_app_does_not_start(self):
        done, asked = self.deploy("--location", "westeurope", NEVER_WARM="1", WARM_UP_TRIES="3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("blobs_extension did not come", done.stderr)
        self.assertEqual(asked.count("keys list"), 3)
        self.assertNotIn("subscription.json", asked)

    def test_explains_itself(self):
        done = subprocess.run([ROOT / "infra/deploy.sh", "--help"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0)
        for option in ("--resource-group", "--parameters", "--location", "--package", "--what-if", "WEBHOOK_SECRET"):
            self.assertIn(option, done.stdout)
        done, _ = self.deploy("--nothing")
        self.assertEqual(done.returncode, 2)
        self.assertIn("there is no --nothing", done.stderr)

    def test_begins_with_parameters_that_the_template_has(self):
        example = json.loads((ROOT / "infra/partner/parameters.example.json").read_text())["parameters"]
        template = json.loads((ROOT / "infra/partner/mainTemplate.json").read_text())["parameters"]
        self.assertLessEqual(set(example), set(template))
        self.assertLessEqual({name for name, each in template.items() if "defaultValue" not in each}, set(example))


if __name__ == "__main__":
    unittest.main()
