"""Tests of `infra/deploy.sh` with stubs of `az` and `func`, which record their arguments and respond as Azure does."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from .arm import ROOT

# Each app has a vault, whose name ends with the name of the app, filled up to the 13 characters of a hash.
AZ = """#!/bin/sh
echo "az $*" >> "$LOG"
list() { for each in "$STATE/$1/"*; do [ ! -e "$each" ] || basename "$each"; done; }
name=$(echo "$*" | sed -n 's/.*--name \\([^ ]*\\).*/\\1/p')
# The app of the deployment. A file in `deployments` names it, or is empty if the deployment failed and has no outputs.
app=$(cat "$STATE/deployments/$name" 2>/dev/null)
hash_of() { printf '%-13s' "$1" | tr ' ' 0; }
case "$*" in
  'account show'*) exit "${NOT_LOGGED_IN:-0}" ;;
  'group exists'*) [ -e "$STATE/group" ] && echo true || echo false ;;
  'group create'*) : > "$STATE/group" ;;
  'deployment group list'*)
    name=$(echo "$*" | sed "s/.*name == '\\([^']*\\)'.*/\\1/")
    list deployments | grep -x "$name" || true ;;
  'keyvault list'*) list vaults ;;
  'functionapp list'*) list apps ;;
  'resource show'*' --namespace Microsoft.KeyVault --parent vaults/'*' --resource-type secrets --name webhook-secret '*)
    vault=$(echo "$*" | sed 's#.*--parent vaults/\\([^ ]*\\).*#\\1#')
    echo 'error of az' >&2
    [ -z "$SECRET_SHOWN" ] || exit "$SECRET_SHOWN"
    [ -e "$STATE/vaults/$vault" ] && grep -q webhookSecret "$STATE/vaults/$vault" || exit 3 ;;
  'deployment group show'*'outputs.vaultUri.'*) [ -z "$app" ] || echo "https://vault-$(hash_of "$app").vault.azure.net" ;;
  'deployment group show'*'outputs.functionApp.'*) [ -z "$app" ] || echo "$app-$(hash_of "$app")" ;;
  'deployment group show'*) echo "$*" | sed 's/.*outputs\\.\\([A-Za-z]*\\)\\.value.*/the-\\1/' ;;
  'deployment group create'*mainTemplate*) for each in "$@"; do last=$each; done
    cat "${last#@}" > "$STATE/secrets"; stat -c %a "${last#@}" > "$STATE/mode"
    mkdir -p "$STATE/deployments" "$STATE/vaults" "$STATE/apps"
    cat "${last#@}" >> "$STATE/vaults/vault-$(hash_of "$name")"
    [ -z "$DEPLOYMENT_FAILS" ] || { : > "$STATE/deployments/$name"; exit 1; }
    echo "$name" > "$STATE/deployments/$name"; : > "$STATE/apps/$name-$(hash_of "$name")" ;;
  'deployment group create'*|'deployment group what-if'*) ;;
  'functionapp keys list'*) [ -e "$STATE/warm" ] && echo 56 || { [ -n "$NEVER_WARM" ] || : > "$STATE/warm"; echo 0; } ;;
  *) echo "not expected: az $*" >&2; exit 99 ;;
esac
"""
FUNC = """#!/bin/sh
echo "func $* in $(basename "$PWD")" >> "$LOG"
"""


@unittest.skipUnless(shutil.which("bash") and os.name == "posix", "the script needs bash")
class Deployment(unittest.TestCase):
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
        """Runs the script; returns its result and the recorded calls."""
        self.log.write_text("")
        options = ["--resource-group", "group", "--parameters", self.parameters, "--package", self.package, *arguments]
        done = subprocess.run(
            [ROOT / "infra/deploy.sh", *options],
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

    def test_deploys_infrastructure_then_package_then_subscription(self):
        done, calls = self.deploy("--location", "westeurope")
        self.assertEqual(done.returncode, 0, done.stderr)
        steps = [
            "az group create --name group --location westeurope",
            "partner/mainTemplate.json",
            "func azure functionapp publish vivadrop-vivadrop00000 --custom --no-build in linux-x86_64",
            "az functionapp keys list",
            "partner/subscription.json --parameters functionApp=vivadrop-vivadrop00000 systemTopic=the-systemTopic "
            "hostStorage=the-hostStorage deadLetterContainer=the-deadLetterContainer dropContainer=the-dropContainer "
            "stateContainer=the-stateContainer",
        ]
        places = [calls.find(step) for step in steps]
        self.assertNotIn(-1, places, calls)
        self.assertEqual(places, sorted(places))

    def test_creates_a_webhook_secret_only_if_it_is_missing(self):
        done, _ = self.deploy("--location", "westeurope")
        self.assertEqual(done.returncode, 0, done.stderr)
        secret = json.loads((self.state / "secrets").read_text())["parameters"]["webhookSecret"]["value"]
        self.assertEqual(len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)), 32)
        done, calls = self.deploy()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads((self.state / "secrets").read_text())["parameters"], {})
        self.assertNotIn("group create --name", calls)

    def new_secret(self, app=None, **environment):
        """Deploys this app; returns the webhook secret that the script created, if it did."""
        parameters = {"name": {"value": app}} if app else {}
        parameters["alertEmail"] = {"value": "operators@example.com"}
        self.parameters.write_text(json.dumps({"parameters": parameters}, indent=2))
        done, _ = self.deploy("--location", "westeurope", **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads((self.state / "secrets").read_text())["parameters"].get("webhookSecret", {}).get("value")

    def test_each_app_of_a_resource_group_has_its_own_webhook_secret(self):
        first, second = self.new_secret(), self.new_secret("contoso")
        self.assertTrue(first and second)
        self.assertNotEqual(first, second)
        for app in (None, "contoso", "vivadrop"):
            self.assertIsNone(self.new_secret(app), app)

    def test_without_a_deployment_takes_the_vault_that_belongs_to_no_other_app(self):
        self.new_secret()
        self.new_secret("contoso")
        (self.state / "vaults/vault-of-another-product").touch()
        shutil.rmtree(self.state / "deployments")
        self.assertIsNone(self.new_secret("contoso"))
        self.assertIsNone(self.new_secret())
        self.assertIsNotNone(self.new_secret("fabrikam"))

    def test_ignores_a_deployment_of_another_app_with_the_name_vivadrop(self):
        self.new_secret()
        self.new_secret("contoso")
        (self.state / "deployments/contoso").rename(self.state / "deployments/vivadrop")
        self.assertIsNone(self.new_secret())
        (self.state / "vaults/vault-vivadrop00000").write_text("")
        (self.state / "deployments/vivadrop").write_text("contoso")
        self.assertIsNotNone(self.new_secret())

    def test_keeps_the_secret_that_a_failed_deployment_has_created(self):
        done, _ = self.deploy("--location", "westeurope", DEPLOYMENT_FAILS="1")
        self.assertEqual(done.returncode, 1)
        self.assertIsNone(self.new_secret())

    def test_does_not_publish_an_app_without_a_webhook_secret(self):
        # The vault of `vivadrop` has a secret, but no app that shows whose vault it is.
        self.deploy("--location", "westeurope", DEPLOYMENT_FAILS="1")
        self.parameters.write_text('{"parameters": {"name": {"value": "contoso"}}}')
        done, calls = self.deploy()
        self.assertEqual(done.returncode, 1)
        self.assertIn("the vault has no webhook secret yet: run this again", done.stderr)
        self.assertNotIn("func ", calls)
        self.assertIsNotNone(self.new_secret("contoso"))
        self.assertIsNone(self.new_secret("contoso"))
        self.assertIsNone(self.new_secret())

    def test_stops_if_several_vaults_can_be_that_of_the_app(self):
        self.new_secret()
        self.new_secret("contoso")
        for folder in ("deployments", "apps"):
            shutil.rmtree(self.state / folder)
        done, calls = self.deploy()
        self.assertEqual(done.returncode, 1)
        self.assertIn("vault-contoso000000 or vault-vivadrop00000: set WEBHOOK_SECRET", done.stderr)
        self.assertNotIn("deployment group create", calls)
        self.assertEqual(self.new_secret(WEBHOOK_SECRET="whsec_Zm9v"), "whsec_Zm9v")

    def test_stops_if_it_cannot_determine_whether_there_is_a_secret(self):
        self.deploy("--location", "westeurope")
        done, calls = self.deploy(SECRET_SHOWN="1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot determine whether the vault has a webhook secret", done.stderr)
        self.assertIn("error of az", done.stderr)
        self.assertNotIn("deployment group create", calls)

    def test_creates_the_secret_if_an_earlier_deployment_did_not(self):
        self.deploy("--location", "westeurope")
        done, _ = self.deploy(SECRET_SHOWN="3")
        self.assertEqual(done.returncode, 0, done.stderr)
        secret = json.loads((self.state / "secrets").read_text())["parameters"]["webhookSecret"]["value"]
        self.assertTrue(secret.startswith("whsec_"))
        self.assertNotIn("error of az", done.stderr)

    def test_secrets_are_not_in_arguments_or_output(self):
        done, calls = self.deploy(
            "--location", "westeurope", WEBHOOK_SECRET="whsec_Zm9v", PARTNER_APP_SECRET="p~a.s$s'word"
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        parameters = json.loads((self.state / "secrets").read_text())["parameters"]
        self.assertEqual(parameters["webhookSecret"]["value"], "whsec_Zm9v")
        self.assertEqual(parameters["partnerAppSecret"]["value"], "p~a.s$s'word")
        self.assertEqual((self.state / "mode").read_text().strip(), "600")
        for secret in ("whsec_Zm9v", "p~a.s"):
            self.assertNotIn(secret, calls + done.stdout + done.stderr)

    def test_deletes_the_file_with_the_secrets(self):
        _, calls = self.deploy("--location", "westeurope")
        files = [word[1:] for word in calls.split() if word.startswith("@") and word != f"@{self.parameters}"]
        self.assertTrue(files)
        self.assertFalse(any(os.path.exists(file) for file in files))

    def test_what_if_changes_nothing(self):
        for group in (False, True):
            if group:
                (self.state / "group").touch()
            done, calls = self.deploy("--what-if")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotRegex(calls, "create|publish|func ")
            self.assertIs("what-if" in calls, group)

    def test_stops_if_a_prerequisite_is_missing(self):
        for spoil, status, message in (
            (lambda: (self.bin / "func").unlink(), 1, "func is not installed"),
            (lambda: (self.package / "host.json").unlink(), 1, "run make package first"),
            (lambda: self.parameters.unlink(), 2, "file not found"),
        ):
            self.setUp()
            spoil()
            # PATH has only the tools that the script needs, so that it does not find the `func` of this machine.
            tools = self.folder / "tools"
            tools.mkdir()
            for tool in ("bash", "dirname", "mktemp", "rm", "chmod", "env"):
                (tools / tool).symlink_to(shutil.which(tool))
            done, _ = self.deploy("--location", "westeurope", PATH=f"{self.bin}:{tools}")
            with self.subTest(message):
                self.assertEqual(done.returncode, status)
                self.assertIn(message, done.stderr)

    def test_stops_if_az_is_not_signed_in(self):
        done, calls = self.deploy("--location", "westeurope", NOT_LOGGED_IN="1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("run az login", done.stderr)
        self.assertNotIn("create", calls)

    def test_a_new_resource_group_needs_a_location(self):
        done, _ = self.deploy()
        self.assertEqual(done.returncode, 2)
        self.assertIn("--location is missing", done.stderr)

    def test_stops_before_the_subscription_if_the_app_does_not_start(self):
        done, calls = self.deploy("--location", "westeurope", NEVER_WARM="1", WARM_UP_TRIES="3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("blobs_extension was not created", done.stderr)
        self.assertEqual(calls.count("keys list"), 3)
        self.assertNotIn("subscription.json", calls)

    def test_help_lists_the_options(self):
        done = subprocess.run([ROOT / "infra/deploy.sh", "--help"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0)
        for option in ("--resource-group", "--parameters", "--location", "--package", "--what-if", "WEBHOOK_SECRET"):
            self.assertIn(option, done.stdout)
        done, _ = self.deploy("--nothing")
        self.assertEqual(done.returncode, 2)
        self.assertIn("unknown option: --nothing", done.stderr)

    def test_example_parameters_fit_the_template(self):
        example = json.loads((ROOT / "infra/partner/parameters.example.json").read_text())["parameters"]
        template = json.loads((ROOT / "infra/partner/mainTemplate.json").read_text())["parameters"]
        self.assertLessEqual(set(example), set(template))
        self.assertLessEqual({name for name, each in template.items() if "defaultValue" not in each}, set(example))


if __name__ == "__main__":
    unittest.main()
