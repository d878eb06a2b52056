"""The CI recipe: its steps, read from the workflow file itself, run here in a small repository of a user.

What a runner provides is put in place: the variables, a `gh` and a `pip` that write down what they were asked for, and
a remote that results are pushed to. Actions (checkout, upload) are what can't be run here.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from factory import make_run

from opbench.cli import app
from opbench.documents import save

ROOT = Path(__file__).parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "opbench.yml"
TEXT = WORKFLOW.read_text(encoding="utf-8")
RECIPE = yaml.safe_load(TEXT)
STEPS = {(job, step["name"]): step for job, found in RECIPE["jobs"].items() for step in found["steps"] if "run" in step}

SUITE = """
[timing]
precision = 0.5
budget_seconds = 0.05

[contenders]
carafe_core = ["carafe[mine]"]

[[workload]]
task = "carafe_core"
name = "tiny"
source = "small enough for a test"
dims = { N = 1, C = 4, H = 4, W = 4 }
modes = ["inference"]
devices = ["cpu"]
"""

OPERATOR = """
from opbench.registry import register_implementation
from opbench.operators.carafe import carafe

@register_implementation("carafe_core", "carafe", "mine")
def mine(x, mask, *, kernel_size, group_size, scale_factor):
    settings = dict(kernel_size=kernel_size, group_size=group_size, scale_factor=scale_factor)
    return carafe(x, mask, **settings, implementation="shift-add")
"""


# --- the file ---------------------------------------------------------------------------------------------------


def test_nothing_of_an_event_is_pasted_into_a_script():
    """A branch may be called `$(rm -rf ~)`: what comes from outside reaches a script as a variable only."""
    for step in STEPS.values():
        assert "${{" not in step["run"], step["name"]


def test_the_token_can_do_nothing_that_a_job_does_not_need():
    assert RECIPE["permissions"] == {"contents": "read"}
    assert {name: job["permissions"] for name, job in RECIPE["jobs"].items()} == {
        "measure": {"contents": "read"},
        "tell": {"pull-requests": "write", "checks": "write"},
        "site": {"contents": "read"},
        "publish": {"contents": "write", "pages": "write", "id-token": "write"},
    }
    assert "secrets." not in TEXT
    assert "pull_request_target" not in TEXT


def test_a_job_whose_token_can_write_installs_and_runs_nothing():
    for name, job in RECIPE["jobs"].items():
        if "write" in job["permissions"].values():
            scripts = [step["run"] for step in job["steps"] if "run" in step]
            used = [step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step]
            runs = re.compile(r"\b(pip|python3?|uv|npm|npx)\b|^\s*opbench |\$\(opbench", re.MULTILINE)
            assert not runs.search("\n".join(scripts)), name
            assert set(used) <= {"actions/checkout", "actions/download-artifact", "actions/deploy-pages"}, name


def test_what_is_installed_is_pinned():
    installs = [step["run"].replace("\\\n", " ") for step in STEPS.values() if "pip install" in step["run"]]
    assert len(installs) == 2
    for line in (line for script in installs for line in script.splitlines() if "pip install" in line):
        assert " -c " in line


def test_every_action_is_the_platform_s_own_and_names_its_version():
    """By the commit, as a tag can be moved; the version stands beside it for people."""
    for workflow in sorted(WORKFLOW.parent.glob("*.yml")):
        used = re.findall(r"uses: (.*)", workflow.read_text(encoding="utf-8"))
        assert used
        assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", name) for name in used), (
            workflow.name
        )


def test_the_same_action_is_of_the_same_commit_everywhere():
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOW.parent.glob("*.yml"))
    pins = set(re.findall(r"uses: (actions/[a-z-]+)@(\w+)", text))
    assert len(pins) == len(dict(pins))


def test_pull_requests_are_held_to_style_types_pages_and_tests():
    declared = re.findall(r"@nox\.session\ndef (\w+)", (ROOT / "noxfile.py").read_text(encoding="utf-8"))
    workflow = yaml.safe_load((WORKFLOW.parent / "test.yml").read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    assert "pull_request" in workflow[True]
    assert workflow["permissions"] == {"contents": "read"}
    sessions = workflow["jobs"]["nox"]["strategy"]["matrix"]["session"]
    assert sessions == ["lint", "docs", "tests"]
    assert set(sessions) <= set(declared)
    assert "${{" not in "".join(step.get("run", "") for step in workflow["jobs"]["nox"]["steps"])


def test_every_job_ends_by_itself():
    assert all(job["timeout-minutes"] <= 60 for job in RECIPE["jobs"].values())


def test_every_opbench_command_that_the_recipe_calls_exists_with_its_options():
    from typer.main import get_command

    known = get_command(app).commands
    script = "\n".join(step["run"] for step in STEPS.values()).replace("\\\n", " ")
    calls = re.findall(r"\bopbench (run|compare|dashboard|report|keep|export) ([^\n]*)", script)
    assert {name for name, _ in calls} == {"run", "compare", "keep", "dashboard", "export"}
    for name, words in calls:
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", words)) <= options, name


# --- the steps, run ---------------------------------------------------------------------------------------------


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Runner:
    """A machine of a CI service with a checkout of a user's repository, as far as the scripts can see."""

    def __init__(self, folder):
        self.tree, self.tools, self.summary = folder / "repository", folder / "tools", folder / "summary.md"
        self.calls = folder / "calls"
        self.tools.mkdir()
        self.calls.touch()
        for name in ("gh", "pip"):
            self.tool(name, f'printf "%s\\n" "{name} $*" >> {self.calls}')
        self.tool("opbench", f'exec {sys.executable} -m opbench "$@"')
        git(folder, "init", "-q", "--bare", "remote")
        self.tree.mkdir()
        git(self.tree, "init", "-q", "-b", "main")
        git(self.tree, "remote", "add", "origin", str(folder / "remote"))
        (self.tree / "mine.toml").write_text(SUITE)
        (self.tree / "my_ops.py").write_text(OPERATOR)
        (self.tree / ".gitignore").write_text("opbench-out/\n__pycache__/\n")
        self.base = self.commit()

    def tool(self, name, script):
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def commit(self):
        git(self.tree, "add", "-A")
        git(self.tree, "commit", "-qm", "a change")
        return git(self.tree, "rev-parse", "HEAD")

    def run(self, job, name, **variables):
        """One step as the service runs it: bash with -e and pipefail, in the checkout."""
        step = STEPS[job, name]
        expressions = {
            "${{ github.event.pull_request.base.sha || github.event.before }}": self.base,
            "${{ github.event.pull_request.number }}": "7",
            "${{ github.repository }}": "someone/something",
            "${{ github.token }}": "token",
            "${{ github.event.pull_request.head.sha || github.sha }}": "abc123",
            "${{ steps.measure.outcome }}": "success",
            "${{ steps.gate.outcome }}": "success",
        }
        given = {key: expressions[value] for key, value in step.get("env", {}).items()}
        env = {
            **os.environ, **RECIPE["env"], "OPBENCH_SUITE": "mine.toml",
            "OPBENCH_ARGUMENTS": "--share-cpu --with my_ops.py",
            "GITHUB_STEP_SUMMARY": str(self.summary), "PATH": f"{self.tools}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **given, **variables,
        }  # fmt: skip
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.tree, env=env, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    @property
    def out(self):
        return self.tree / RECIPE["env"]["OPBENCH_OUT"]


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def test_a_user_s_repository_installs_the_package_and_this_one_installs_itself(runner):
    place = "opbench[all] @ git+https://example.org/somebody/opbench@0123abc"
    pins = "https://example.org/somebody/opbench/raw/0123abc/constraints.txt"
    assert runner.run("measure", "install", OPBENCH_FROM=place, OPBENCH_CONSTRAINTS=pins).returncode == 0
    (runner.tree / "opbench").mkdir()
    (runner.tree / "opbench" / "__main__.py").touch()
    assert runner.run("measure", "install").returncode == 0
    assert runner.calls.read_text().splitlines() == [
        f"pip install {place} -c {pins}",
        "pip install -e .[all] -c constraints.txt",
    ]


def test_a_recipe_that_does_not_say_where_opbench_is_installs_nobody_s(runner):
    """A name alone would be whatever somebody has published under it."""
    for job in ("measure", "site"):
        done = runner.run(job, "install")
        assert done.returncode != 0
        assert "set OPBENCH_FROM: the repository of opbench at a commit" in done.stderr
        done = runner.run(job, "install", OPBENCH_FROM="opbench @ git+https://example.org/opbench@0123abc")
        assert done.returncode != 0
        assert "set OPBENCH_CONSTRAINTS" in done.stderr
    assert not runner.calls.read_text()


def test_without_a_base_commit_the_gate_says_so_and_passes(runner):
    runner.out.mkdir()
    for base in ("", "0" * 40):
        done = runner.run("measure", "gate", BASE=base)
        assert done.returncode == 0, done.stderr
        assert "no base commit to compare with" in (runner.out / "comparison.md").read_text()


COMMENTS = "repos/someone/something/issues"


def test_a_comment_is_found_by_its_own_marker_and_edited_or_made(runner):
    runner.out.mkdir()
    assert runner.run("tell", "comment").returncode == 0, "nothing to say is no failure"
    (runner.out / "comparison.md").write_text("### opbench: no regression\n")
    for known, where in (("", f"{COMMENTS}/7/comments"), ("55\\n66\\n", f"-X PATCH {COMMENTS}/comments/55")):
        runner.calls.write_text("")
        runner.tool("gh", f'printf "%s\\n" "gh $*" >> {runner.calls}; case "$*" in *--jq*) printf "{known}";; esac')
        assert runner.run("tell", "comment").returncode == 0
        asked, made = runner.calls.read_text().splitlines()
        assert asked.startswith(f"gh api --paginate {COMMENTS}/7/comments --jq")
        assert 'startswith("<!-- opbench: comparison -->")' in asked
        assert "github-actions[bot]" in asked
        assert made == f"gh api {where} -F body=@opbench-out/comment.md"
    assert (runner.out / "comment.md").read_text().startswith("<!-- opbench: comparison -->\n### opbench: no regress")


def test_the_summary_has_the_comparison_where_nobody_may_comment(runner):
    runner.out.mkdir()
    (runner.out / "comparison.md").write_text("### opbench: no regression\n")
    runner.tool("gh", "exit 1")
    done = runner.run("tell", "comment")
    assert done.returncode == 0
    assert "::notice::" in done.stdout
    assert runner.summary.read_text().count("### opbench: no regression") == 1


CHECK = "gh api repos/someone/something/check-runs -f name=opbench: figures -f head_sha=abc123"


def checked(runner):
    """What is told to the service of the check's conclusion, and the summary that it shows."""
    runner.calls.write_text("")
    assert runner.run("tell", "check").returncode == 0
    (call,) = runner.calls.read_text().splitlines()
    assert call.startswith(CHECK)
    assert call.endswith("-F output[summary]=@opbench-out/said.md")
    return call, (runner.out / "said.md").read_text()


def test_a_run_of_disturbed_rows_alone_is_a_neutral_check(runner):
    (runner.out / "head").mkdir(parents=True)
    runner.tool("opbench", "echo disturbed > opbench-out/head/report.md; exit 2")
    assert runner.run("measure", "measure").returncode == 0
    assert runner.run("measure", "conclude").returncode == 0
    call, said = checked(runner)
    assert "-f conclusion=neutral -f output[title]=Nothing was measured" in call
    assert "too busy" in said


def test_a_comparison_without_an_undisturbed_row_is_a_neutral_check(runner):
    (runner.tree / "opbench").mkdir()
    (runner.tree / "opbench" / "__main__.py").touch()
    runner.out.mkdir()
    compared = "echo '### opbench: no regression' > opbench-out/comparison.md; echo '{}'; exit 2"
    runner.tool("opbench", f'case "$1" in compare) {compared};; export) echo ::notice::seen;; esac')
    done = runner.run("measure", "gate")
    assert done.returncode == 0, done.stderr
    assert "::notice::seen" in done.stdout
    assert runner.run("measure", "conclude").returncode == 0
    assert "-f conclusion=neutral" in checked(runner)[0]


def test_a_gate_that_was_asked_wrongly_is_red(runner):
    (runner.tree / "opbench").mkdir()
    (runner.tree / "opbench" / "__main__.py").touch()
    runner.out.mkdir()
    runner.tool("opbench", "exit 2")
    assert runner.run("measure", "gate").returncode == 2
    assert not (runner.out / "unmeasured").exists()


@pytest.mark.parametrize(
    ("measured", "gated", "conclusion", "title"),
    [
        ("success", "success", "success", "opbench: no regression: 3 same"),
        ("success", "failure", "failure", "opbench: no regression: 3 same"),
        ("failure", "skipped", "failure", "A case failed"),
    ],
)
def test_the_check_concludes_what_the_steps_did(measured, gated, conclusion, title, runner):
    if gated != "skipped":
        runner.out.mkdir()
        (runner.out / "comparison.md").write_text("### opbench: no regression: 3 same\n\nbase and head\n")
    assert runner.run("measure", "conclude", MEASURED=measured, GATED=gated).returncode == 0
    call, said = checked(runner)
    assert f"-f conclusion={conclusion} -f output[title]={title}" in call
    assert said


@pytest.mark.parametrize("written", ["", "success -f head_sha=other", "skipped"])
def test_a_conclusion_that_is_none_is_told_to_nobody(written, runner):
    """What a pull request runs can write the file."""
    runner.out.mkdir()
    (runner.out / "conclusion").write_text(written)
    assert runner.run("tell", "check").returncode == 0
    assert not runner.calls.read_text()


def test_every_run_of_main_is_kept_once_in_a_branch_of_its_own(runner):
    remote = runner.tree.parent / "remote"

    def published(run):
        save(run, runner.out / "head" / "run.json")
        for job, step in (("site", "keep"), ("publish", "push")):
            done = runner.run(job, step)
            assert done.returncode == 0, done.stderr
            if step == "keep" and (runner.out / "store" / ".git").is_dir():
                shutil.rmtree(runner.out / "store")
            elif step == "keep":
                git(runner.tree, "worktree", "remove", "--force", "opbench-out/store")
        git(runner.tree, "worktree", "remove", "--force", "opbench-out/store")
        git(runner.tree, "branch", "-D", "opbench-results")
        shutil.rmtree(runner.out)
        return git(remote, "ls-tree", "-r", "--name-only", "opbench-results").splitlines()

    first, second = make_run(), make_run(started="2025-01-03T03:04:05+00:00")
    published(first)
    kept = published(second)
    assert published(second) == kept, "a job that is run again adds nothing"
    assert [Path(path).suffixes for path in kept] == [[".digest", ".json"], [".run", ".json"]] * 2
    assert all(path.startswith("results/history/") for path in kept)


def test_a_run_with_a_failed_case_is_red_and_its_report_is_in_the_summary(runner):
    (runner.out / "head").mkdir(parents=True)
    runner.tool("opbench", "echo '1 crashed' > opbench-out/head/report.md; exit 1")
    assert runner.run("measure", "measure").returncode == 1
    assert runner.summary.read_text() == "1 crashed\n"
    runner.tool("opbench", "rm -r opbench-out/head; exit 2")
    assert runner.run("measure", "measure").returncode == 2, "and one that never began is red without a report"


@pytest.mark.slow
def test_a_pull_request_that_changes_the_work_is_measured_gated_and_told(runner):
    # The same values by another way: two more operators are dispatched, which no clock is needed to see.
    (runner.tree / "my_ops.py").write_text(OPERATOR.replace("carafe(x, mask,", "carafe(x.neg().neg(), mask,"))
    runner.commit()
    measured = runner.run("measure", "measure")
    assert measured.returncode == 0, measured.stderr
    assert (runner.out / "head" / "report.html").exists()
    assert "contenders against their baselines" in runner.summary.read_text()
    gated = runner.run("measure", "gate")
    assert gated.returncode == 1, gated.stdout + gated.stderr
    said = (runner.out / "comparison.md").read_text()
    assert said.startswith("### opbench: REGRESSED")
    assert "carafe[mine]" in said


@pytest.mark.nightly
def test_in_this_repository_both_revisions_are_measured_in_turns(runner):
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    runner.tree = runner.tree.parent / "clone"
    git(runner.tree.parent, "clone", "-q", str(ROOT), str(runner.tree))
    (runner.tree / "mine.toml").write_text(SUITE.replace("[mine]", "[shift-add]"))
    runner.out.mkdir()
    base = git(runner.tree, "rev-parse", "HEAD")
    done = runner.run("measure", "gate", BASE=base, PYTHONPATH=str(runner.tree))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 cases exactly as before" in (runner.out / "comparison.md").read_text()


def test_the_dashboard_of_the_kept_runs_is_made(runner):
    save(make_run(), runner.out / "store" / "results" / "one" / "run.json")
    done = runner.run("site", "dashboard")
    assert done.returncode == 0, done.stderr
    assert (runner.out / "site" / "index.html").exists()
