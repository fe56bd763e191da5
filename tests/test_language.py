"""Which language the operator gets, and that every text of the command line has a Chinese form."""

from __future__ import annotations

import pickle

import pytest

from rehost.demo.demonstration import MARK_TEXT
from rehost.errors import OperatorError, StoreError
from rehost.language import CHINESE, ENGLISH, Message, gettext, language, ngettext, translated
from tests import messages


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8"}, CHINESE),
        ({"LANG": "zh_CN.GBK"}, CHINESE),
        ({"LANG": "zh_CN"}, CHINESE),
        ({"LANG": "zh"}, CHINESE),
        ({"LANG": "zh_SG.UTF-8@pinyin"}, CHINESE),
        ({"LANG": "zh_TW.UTF-8"}, ENGLISH),
        ({"LANG": "zh_HK.UTF-8"}, ENGLISH),
        ({"LANG": "en_US.UTF-8"}, ENGLISH),
        ({"LANG": "de_DE.UTF-8"}, ENGLISH),
        ({"LANG": "C.UTF-8", "LANGUAGE": "zh_CN"}, ENGLISH),
        ({"LANGUAGE": "zh_CN"}, ENGLISH),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, CHINESE),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "fr:zh_CN:en"}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en:zh_CN"}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "fr"}, ENGLISH),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, ENGLISH),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, ENGLISH),
        ({"LANG": "C", "LC_ALL": "zh_CN.UTF-8", "LC_MESSAGES": "C"}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, CHINESE),
        ({"LANG": "zh_CN.UTF-8", "REHOST_LANG": "en"}, ENGLISH),
        ({"LANG": "C", "REHOST_LANG": "zh_CN"}, CHINESE),
        ({"REHOST_LANG": "zh-Hans-CN"}, CHINESE),
        ({"REHOST_LANG": "zh"}, CHINESE),
        ({"REHOST_LANG": "klingon", "LANG": "zh_CN.UTF-8"}, ENGLISH),
        ({"REHOST_LANG": "", "LANG": "zh_CN.UTF-8"}, CHINESE),
    ],
    ids=str,
)
def test_the_language_follows_the_environment_as_in_gnu_gettext(environ, expected):
    assert language(environ) == expected


def test_a_text_without_translation_stays_as_it_is(monkeypatch):
    monkeypatch.setenv("REHOST_LANG", CHINESE)

    assert (gettext("no such text"), gettext(""), ngettext("one", "many", 1)) == ("no such text", "", "one")


def test_a_message_is_english_as_a_string_and_translated_with_its_fields(monkeypatch):
    monkeypatch.setenv("REHOST_LANG", CHINESE)
    message = Message("{value} {unit}", value="any text", unit=Message("seconds"))

    assert message == "any text seconds"
    assert translated(message) == "any text 秒"
    assert translated(message, ENGLISH) == "any text seconds"


def test_a_message_without_fields_keeps_its_braces():
    assert Message("a path with {key}") == translated(Message("a path with {key}")) == "a path with {key}"


def test_messages_and_errors_cross_from_one_process_to_another():
    error = StoreError("{name} is full: {advice}", name="a", advice=Message("free some"))
    again = pickle.loads(pickle.dumps(error))

    assert (str(again), type(again)) == ("a is full: free some", StoreError)
    assert again.messages[0].fields == error.messages[0].fields
    assert type(again.messages[0].fields["advice"]) is Message


def test_an_error_has_a_line_for_each_text():
    assert str(OperatorError("first {braces}", "second")) == "first {braces}\nsecond"


NEVER_TRANSLATED = {"rehost run", "rehost status --failed", "rehost origins", "Referer", MARK_TEXT.strip()}


def test_every_text_is_translated_with_the_same_fields_and_no_other_text_is_in_the_catalogue():
    known = {message.id: message for message in messages.catalogue() if message.id}
    lacking = [
        text for text in messages.collected() if text not in known or not all(messages.parts(known[text].string))
    ]

    assert not lacking, "write the Chinese: ./dev messages"
    assert set(known) == messages.collected(), "./dev messages"
    assert not [message.id for message in known.values() if message.fuzzy]
    wrong = [
        text
        for text, message in known.items()
        if messages.fields(messages.parts(text)[-1]) != messages.fields(messages.parts(message.string)[0])
    ]
    assert not wrong


def test_the_compiled_catalogue_is_the_written_one():
    assert messages.MO.read_bytes() == messages.compiled(), "./dev messages"


def test_what_the_operator_reads_is_marked_for_translation():
    known = {*messages.collected(), *NEVER_TRANSLATED}

    assert not [each for path in sorted(messages.PACKAGE.rglob("*.py")) for each in messages.unmarked(path, known)]
