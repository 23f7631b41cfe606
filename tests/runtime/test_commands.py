"""Options that say two things, and how a command of its own ends."""

from __future__ import annotations

import pytest

from mpa_core.errors import ConfigError
from mpa_core.runtime.commands import Parser, run_command
from mpa_core.runtime.streams import stdout


@pytest.fixture
def parser():
    common = Parser(add_help=False)
    common.add_argument("--format", choices=("text", "json"), default="text")
    parser = Parser(prog="tool")
    leaf = parser.add_subparsers().add_parser("do", parents=[common])
    leaf.add_argument("names", nargs="*")
    leaf.add_argument("-q", "--quality", type=float, default=4.5)
    leaf.add_argument("--paths", nargs="+")
    leaf.add_argument("--region", action="append")
    leaf.add_mutually_exclusive_group().add_argument("--mix")
    return parser


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--mix a --mix b", "--mix: given twice, as a and b; give it once"),
        ("--quality 4.5 -q 5", "given twice, as 4.5 and 5.0"),
        ("--paths a b --paths c", "given twice, as a b and c"),
        ("--format text --format json", "--format: given twice, as text and json"),
    ],
)
def test_an_option_given_twice_with_different_values_is_wrong_usage(parser, words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["do", *words.split()])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_the_same_value_twice_and_lists_pass(parser):
    words = "do --mix a -q 5 --mix a --quality 5.0 --region x --region y --format json b c"
    for _ in range(2):  # a parser may be used again
        args = parser.parse_args(words.split())
        assert (args.mix, args.quality, args.region) == ("a", 5.0, ["x", "y"])
        assert (args.format, args.names) == ("json", ["b", "c"])
    assert parser.parse_args(["do", "--mix", "b"]).mix == "b"


def test_a_command_ends_with_a_code(capsys):
    def fails(error):
        def command():
            print("a result", file=stdout())
            print("something else")
            if error is not None:
                raise error
            return 3

        return command

    assert run_command("tool", fails(None), for_good=False) == 3
    said = capsys.readouterr()
    assert (said.out, said.err) == ("a result\n", "something else\n")
    assert run_command("tool", fails(ConfigError("why")), for_good=False) == 1
    assert capsys.readouterr().err == "something else\ntool: error: why\n"
    assert run_command("tool", fails(KeyboardInterrupt()), for_good=False) == 130
    assert run_command("tool", fails(BrokenPipeError()), for_good=False) == 1
    assert capsys.readouterr().err.count("tool:") == 1
