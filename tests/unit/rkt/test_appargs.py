"""rkt's grammar of images, flags and arguments."""

from __future__ import annotations

import pytest

from rkt.appargs import FLAGS, PREPARE, RUN, RUN_PREPARED, UsageError, parse
from rkt.errors import RktError


def refused(verb: str, *words: str) -> RktError:
    with pytest.raises(RktError) as caught:
        parse(verb, words)
    return caught.value


def test_arguments_go_to_the_image_before_them() -> None:
    options = parse(RUN, ["a", "--", "--x", "-y", "---", "b", "--exec", "/bin/ov", "--", "-z"])
    assert [(app.image, app.exec, app.args) for app in options.apps] == [
        ("a", None, ("--x", "-y")),
        ("b", "/bin/ov", ("-z",)),
    ]


def test_arguments_may_hold_two_dashes() -> None:
    options = parse(RUN, ["a", "--", "sh", "--", "-c"])
    assert options.apps[0].args == ("sh", "--", "-c")


def test_a_flag_takes_the_next_word_even_if_it_starts_with_a_dash() -> None:
    assert parse(RUN, ["a", "--exec", "-x"]).apps[0].exec == "-x"


def test_flags_of_the_pod_stand_anywhere() -> None:
    options = parse(RUN, ["--net=one", "a", "--net=two:IP=10.0.0.1", "--hostname", "h", "b", "--ipc=private"])
    assert options.net == ("one", "two:IP=10.0.0.1")
    assert options.hostname == "h"
    assert options.ipc == "private"
    assert [app.image for app in options.apps] == ["a", "b"]


def test_net_alone_does_not_take_the_image_for_its_value() -> None:
    options = parse(RUN, ["--net", "a"])
    assert options.net == ("default",)
    assert options.apps[0].image == "a"


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("=true", True), ("=1", True), ("=false", False), ("=F", False)]
)
def test_a_switch_takes_a_value_only_behind_an_equals_sign(text: str, value: bool) -> None:
    options = parse(RUN, [f"--inherit-env{text}", "a"])
    assert options.inherit_env is value
    assert options.apps[0].image == "a"


def test_private_users_is_unset_unless_said() -> None:
    assert parse(RUN, ["a"]).private_users is None
    assert parse(RUN, ["a", "--private-users=false"]).private_users is False
    assert parse(RUN, ["a", "--private-users"]).private_users is True


def test_mount_before_an_image_is_for_all_apps() -> None:
    volume = "--volume=v,kind=empty"
    options = parse(
        RUN, [volume, "--mount=volume=v,target=/all", "a", "--mount", "volume=v,target=/one", "b"]
    )
    assert [mount.path for mount in options.mounts] == ["/all"]
    assert [[mount.path for mount in app.mounts] for app in options.apps] == [["/one"], []]


def test_a_mount_of_an_unknown_volume_dangles() -> None:
    error = refused(RUN, "a", "--mount=volume=v,target=/x")
    assert 'dangling mount point "/x": volume "v" not found' in str(error)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "must provide at least one image or specify the pod manifest"),
        (["--", "x"], "an image is required before any app arguments"),
        (["a", "--", "x", "---", "--", "y"], "only one set of app arguments allowed per image"),
        (["--exec=/x", "a"], "--exec must follow an image"),
        (["--readonly-rootfs", "a"], "--readonly-rootfs must follow an image"),
        (["a", "--user=x", "--user=y"], "--user specified multiple times for the same image"),
        (["a", "--hostname"], "flag needs an argument: --hostname"),
        (["a", "--memory=16m"], "memory limit of 1 bytes too low"),
        (["a", "--memory=4095"], "memory limit of 4095 bytes too low"),
        (["a", "--cpu=0"], "leaves no CPU time"),
        (["a", "--cpu-shares=1"], "--cpu-shares: 1 is not between 2 and 262144"),
        (["a", "--oom-score-adj=1001"], "1001 is not between -1000 and 1000"),
        (
            ["a", "--caps-retain=CAP_KILL", "--caps-remove=CAP_CHOWN"],
            "cannot use both --caps-retain and --caps-remove",
        ),
        (["a", "--caps-retain=CAP_PONIES"], '"CAP_PONIES" is no capability'),
        (["a", "--seccomp=read"], "the mode is missing"),
        (["a", "--seccomp=mode=remove"], "no system call is named"),
        (["a", "--seccomp=mode=remove,errno=eperm,read"], "is no errno"),
        (["a", "--set-env=X=1", "--set-env=X=2"], 'environment variable "X" already set'),
        (["a", "--environment=X=1", "--environment=X=2"], 'environment variable "X" already set'),
        (["a", "--set-env=X"], "environment variable must be specified as name=value"),
        (["a", "--user=-1"], "a sign is not allowed"),
        (["a", "--user=4294967295"], "the highest is 4294967294"),
        (["a", "--supplementary-gids=1,x"], '"x" is not a number'),
        (["a", "--supplementary-gids=4294967295"], "is not a number between 0 and 4294967294"),
        (["a", "--supplementary-gids=\uff11"], "is not a number"),
        (["a", "--mount=volume=v,target=/proc/sys"], "nothing may be mounted over /proc/sys"),
        (["a", "--mount=volume=v,target=/x/.."], "nothing may be mounted over /"),
        (["a", "--mount=volume=v"], "target is missing"),
        (["--volume=v,kind=empty", "--volume=v,kind=empty", "a"], 'the volume "v" is given twice'),
        (["--volume=v,kind=host", "a"], "source: is required"),
        (["--port=www:80", "--net=none", "a"], "--port flag does not work with 'none' or 'host' networking"),
        (["--port=www:80", "--net=x,host", "a"], "--port flag does not work with 'none' or 'host'"),
        (["--port=www", "a"], '"www" is not NAME:[IP:]HOSTPORT'),
        (["--port=www:0", "a"], "the port of the host may not be 0"),
        (["--port=www:65536", "a"], '"65536" is not a number between 0 and 65535'),
        (["--port=www:1.2.3:80", "a"], "is not an IPv4 address"),
        (["--mds-register", "--net=none", "a"], "--mds-register flag does not work with --net=none"),
        (["--interactive", "a", "b"], "interactive option only supports one image"),
        (["--interactive", "--detach", "a"], "are mutually exclusive"),
        (["--pod-manifest=f", "a"], "conflicting flags set with --pod-manifest"),
        (["--pod-manifest=f", "--volume=v,kind=empty"], "conflicting flags set with --pod-manifest"),
        (["--pod-manifest=f", "--pull-policy=update"], "conflicting flags set with --pod-manifest"),
        (["--pod-manifest=f", "--set-env=A=b"], "conflicting flags set with --pod-manifest"),
        (["--stage1-name=x", "--stage1-path=/x", "a"], "are mutually exclusive"),
        (["--stage1-name=x", "--stage1-name=y", "a"], "--stage1-name specified multiple times"),
        (["--pull-policy=maybe", "a"], '"maybe" is not one of new, never, update'),
        (["--store-only", "--no-store", "a"], "are mutually exclusive"),
        (["--dns=none", "--dns=8.8.8.8", "a"], "--dns=none excludes every other DNS flag"),
        (["--dns=8.8.8", "a"], '"8.8.8" is not an IP address'),
        (["--dns-search=a\nnameserver 6.6.6.6", "a"], "is not a single word"),
        (["--hosts-entry=1.2.3.4", "a"], "neither IP=NAME nor the word host"),
        (["--hosts-entry=1.2.3.4=a\n6.6.6.6 b", "a"], "is not the name of a host"),
        (["--hostname=a b", "a"], "is not a host name"),
        (["--hostname=" + "a" * 65, "a"], "is not a host name"),
        (["--ipc=none", "a"], '"none" is not one of auto, private, parent'),
        (["a", "--name=A"], '"A" is no AC name'),
        (["a", "--working-dir=x"], '"x" is not an absolute path'),
        (["a", "--stdin=log"], '"log" is not one of null, tty, stream'),
        ([""], "the name of an image is empty"),
        (["a", "--", "\udcff"], "is not UTF-8"),
    ],
)  # fmt: skip
def test_refusals(words: list[str], message: str) -> None:
    assert message in str(refused(RUN, *words))


def test_memory_in_thousandths_gets_a_hint() -> None:
    assert "thousandths" in str(refused(RUN, "a", "--memory=16m").hint)
    assert refused(RUN, "a", "--memory=0").hint is None


def test_hosts_entries_of_several_flags_and_lists() -> None:
    options = parse(RUN, ["a", "--hosts-entry=1.2.3.4=a,1.2.3.4=b", "--hosts-entry=::1=c"])
    assert options.hosts_entries == (("1.2.3.4", "a"), ("1.2.3.4", "b"), ("::1", "c"))
    assert not options.hosts_from_host


def test_the_hosts_file_of_the_host_beats_entries() -> None:
    options = parse(RUN, ["a", "--hosts-entry=1.2.3.4=a", "--hosts-entry=host"])
    assert options.hosts_from_host
    assert options.hosts_entries == ()


@pytest.mark.parametrize(
    ("words", "policy"), [([], "new"), (["--store-only"], "never"), (["--no-store"], "update")]
)
def test_pull_policy_and_its_deprecated_spellings(words: list[str], policy: str) -> None:
    assert parse(RUN, [*words, "a"]).pull_policy == policy


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-p", "80:80", "a"], "--port=NAME:HOSTPORT"),
        (["-it", "a"], "--interactive"),
        (["-v", "/a:/b", "a"], "--volume=NAME,kind=host"),
        (["--rm", "a"], "rkt gc"),
        (["-d", "a"], "--detach"),
        (["a", "--cap-add=NET_ADMIN"], "--caps-retain"),
        (["a", "--nmae=x"], "did you mean `--name`?"),
        (["-net=none", "a"], "did you mean `--net`?"),
        (["a", "--quiet"], "--quiet is a flag of `rkt prepare`"),
        (["a", "--", "x", "---", "b", "--debug"], "before the first `--`"),
        (["--bogus-flag-of-nobody", "a"], "see `rkt run --help`"),
    ],
)
def test_unknown_flags_get_a_hint(words: list[str], hint: str) -> None:
    error = refused(RUN, *words)
    assert str(error).startswith("unknown flag: ")
    assert hint in str(error.hint)


def test_prepare_has_no_network_flags_but_is_quiet() -> None:
    assert parse(PREPARE, ["--quiet", "a"]).quiet
    assert "`rkt run` and `rkt run-prepared`" in str(refused(PREPARE, "--net=x", "a").hint)


def test_run_prepared_takes_one_uuid_and_no_arguments() -> None:
    assert parse(RUN_PREPARED, ["--net=none", "5be3"]).uuid == "5be3"
    assert "must provide the UUID" in str(refused(RUN_PREPARED))
    assert "unexpected argument: b" in str(refused(RUN_PREPARED, "a", "b"))
    assert "app arguments unsupported" in str(refused(RUN_PREPARED, "a", "--", "b"))


def test_usage_errors_exit_254() -> None:
    error = refused(RUN, "--bogus")
    assert isinstance(error, UsageError)
    assert error.exit_code == 254


def test_every_flag_has_a_text_and_a_field_of_the_options() -> None:
    from rkt.appargs import AppOptions, PodOptions

    for flag in FLAGS:
        fields = AppOptions._fields if flag.app else PodOptions._fields
        assert flag.help
        assert flag.key in fields or flag.hidden, flag.name


def test_help_can_be_made_from_the_table() -> None:
    import argparse

    from rkt.appargs import describe

    parser = argparse.ArgumentParser(prog="rkt run", add_help=False)
    describe(parser, RUN)
    text = parser.format_help()
    assert "--port NAME:[IP:]HOSTPORT" in text
    assert "--store-only" not in text
