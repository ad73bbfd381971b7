"""Governance and permissions: the two XML documents of DDS Security, as OMG's schemas (20170901) shape them."""

from __future__ import annotations

import datetime as dt
import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from sealegs.security.certificates import Validity
from sealegs.security.graph import DISCOVERY, Access
from sealegs_contract.errors import SecurityError

_SCHEMA = "http://www.omg.org/spec/DDS-SECURITY/20170901/omg_shared_ca_{}.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_TIME = "%Y-%m-%dT%H:%M:%S"
_GUARDED = {  # rule of the domain or of all topics: the values that protect
    "allow_unauthenticated_participants": {"false"},
    "enable_join_access_control": {"true"},
    "discovery_protection_kind": {"ENCRYPT", "SIGN"},
    "liveliness_protection_kind": {"ENCRYPT", "SIGN"},
    "rtps_protection_kind": {"SIGN", "ENCRYPT"},
    "enable_discovery_protection": {"true"},
    "enable_liveliness_protection": {"true"},
    "enable_read_access_control": {"true"},
    "enable_write_access_control": {"true"},
    "metadata_protection_kind": {"ENCRYPT", "SIGN"},
    "data_protection_kind": {"ENCRYPT", "SIGN"},
}
_DOMAIN_RULES, _TOPIC_RULES = tuple(_GUARDED)[:5], tuple(_GUARDED)[5:]
_NAME = r"/[A-Za-z_][A-Za-z0-9_]*\*?"  # a star may end a name, never be one
_TOPIC = re.compile(rf"ros_discovery_info|rt({_NAME})+|rq({_NAME})+Request|rr({_NAME})+Reply")


@dataclass(frozen=True)
class Permissions:
    """What a permissions document grants, and to whom."""

    subject: str
    validity: Validity
    domains: frozenset[int]
    publish: frozenset[str]
    subscribe: frozenset[str]

    def may_publish(self, topic: str) -> bool:
        """Whether some expression covers this DDS topic; expressions are POSIX fnmatch patterns."""
        return _covered(topic, self.publish)

    def may_subscribe(self, topic: str) -> bool:
        """As `may_publish`, for readers."""
        return _covered(topic, self.subscribe)


def governance_xml(domain: int) -> bytes:
    """Everybody is authenticated, everything is checked and encrypted, on every topic."""
    root, body = _document("governance", "domain_access_rules")
    rule = ElementTree.SubElement(body, "domain_rule")
    _add(ElementTree.SubElement(rule, "domains"), "id", str(domain))
    values = {name: "ENCRYPT" if "ENCRYPT" in kinds else min(kinds) for name, kinds in _GUARDED.items()}
    values["rtps_protection_kind"] = "SIGN"  # what is inside is encrypted already, as `ros2 security` has it
    for name in _DOMAIN_RULES:
        _add(rule, name, values[name])
    topic = ElementTree.SubElement(ElementTree.SubElement(rule, "topic_access_rules"), "topic_rule")
    _add(topic, "topic_expression", "*")
    for name in _TOPIC_RULES:
        _add(topic, name, values[name])
    return _written(root)


def permissions_xml(enclave: str, access: Access, domain: int, validity: Validity) -> bytes:
    """Exactly this access, in this domain, to the holder of the enclave's certificate; all else is denied."""
    root, body = _document("permissions", "permissions")
    grant = ElementTree.SubElement(body, "grant", name=enclave)
    _add(grant, "subject_name", f"CN={enclave}")
    times = ElementTree.SubElement(grant, "validity")
    _add(times, "not_before", validity.begin.strftime(_TIME))
    _add(times, "not_after", validity.end.strftime(_TIME))
    rule = ElementTree.SubElement(grant, "allow_rule")
    _add(ElementTree.SubElement(rule, "domains"), "id", str(domain))
    for verb, names in (("publish", access.dds_publish), ("subscribe", access.dds_subscribe)):
        topics = ElementTree.SubElement(ElementTree.SubElement(rule, verb), "topics")
        for name in sorted({*names, DISCOVERY}):
            _add(topics, "topic", name)
    _add(grant, "default", "DENY")
    return _written(root)


def read_governance(xml: bytes) -> frozenset[int]:
    """Domains that the document protects. Raises SecurityError where it leaves one of its rules open."""
    domains: set[int] = set()
    for rule in _children(_body(xml, "domain_access_rules"), "domain_rule"):
        parts = _exactly(rule, "domains", *_DOMAIN_RULES, "topic_access_rules")
        _check_guarded(parts[1:-1])
        for topic in _children(parts[-1], "topic_rule"):
            expression, *rest = _exactly(topic, "topic_expression", *_TOPIC_RULES)
            if _text(expression) != "*":
                raise SecurityError(f"rules for {_text(expression)!r} apart; expected one rule for all topics (*)")
            _check_guarded(rest)
        domains |= _domains(parts[0])
    return frozenset(domains)


def read_permissions(xml: bytes) -> Permissions:
    """The one grant of the document. Raises SecurityError where it is malformed, or allows what is not named."""
    (grant,) = _exactly(_body(xml, "permissions"), "grant")
    subject, times, *rules, default = _exactly(grant, "subject_name", "validity", "allow_rule", "*", "default")
    if _text(default) != "DENY":
        raise SecurityError(f"its default is {_text(default)!r}, expected DENY")
    allowed: dict[str, set[str]] = {"publish": set(), "subscribe": set()}
    domains: set[int] = set()
    for rule in rules:
        if rule.tag != "allow_rule":
            raise SecurityError(f"<{rule.tag}> is not understood; expected <allow_rule>")
        domains |= _domains(_exactly(rule, "domains", "*")[0])
        for criterion in rule[1:]:
            if criterion.tag not in allowed:
                raise SecurityError(f"<{criterion.tag}> is not understood; expected <publish> or <subscribe>")
            (topics,) = _exactly(criterion, "topics")
            allowed[criterion.tag] |= {_text(topic) for topic in _children(topics, "topic")}
    unnamed = sorted(name for name in set().union(*allowed.values()) if not _TOPIC.fullmatch(name))
    if unnamed:
        raise SecurityError(f"allows {', '.join(map(repr, unnamed[:3]))}: not the name of a ROS topic or service")
    return Permissions(
        _text(subject), _validity(times), frozenset(domains), frozenset(allowed["publish"]),
        frozenset(allowed["subscribe"]),
    )  # fmt: skip


def _document(kind: str, body: str) -> tuple[ElementTree.Element, ElementTree.Element]:
    ElementTree.register_namespace("xsi", _XSI)
    root = ElementTree.Element("dds", {f"{{{_XSI}}}noNamespaceSchemaLocation": _SCHEMA.format(kind)})
    return root, ElementTree.SubElement(root, body)


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _written(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root) + b"\n"


def _body(xml: bytes, tag: str) -> ElementTree.Element:
    if b"<!" in xml:
        raise SecurityError("holds a declaration (<!...>), which neither document needs")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise SecurityError(f"not XML: {error}") from error
    if root.tag != "dds":
        raise SecurityError(f"begins with <{root.tag}>, expected <dds>")
    return _exactly(root, tag)[0]


def _children(element: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    """At least one child, all of this tag."""
    if not len(element) or any(child.tag != tag for child in element):
        raise SecurityError(f"<{element.tag}> must hold <{tag}> and nothing else")
    return list(element)


def _exactly(element: ElementTree.Element, *tags: str) -> list[ElementTree.Element]:
    """Children of just these tags, in order; "*" stands for any number of any."""
    found = [child.tag for child in element]
    if "*" in tags:
        star = tags.index("*")
        tail = len(tags) - star - 1
        ends = found[:star] + found[len(found) - tail :]
        fits = len(found) >= len(tags) - 1 and ends == [*tags[:star], *tags[star + 1 :]]
    else:
        fits = found == list(tags)
    if not fits:
        raise SecurityError(f"<{element.tag}> holds {' '.join(found) or 'nothing'}, expected {' '.join(tags)}")
    return list(element)


def _check_guarded(elements: Iterable[ElementTree.Element]) -> None:
    for element in elements:
        value, wanted = _text(element), _GUARDED[element.tag]
        if value.removesuffix("_WITH_ORIGIN_AUTHENTICATION") not in wanted:
            raise SecurityError(f"{element.tag} is {value!r}, expected {' or '.join(sorted(wanted))}")


def _domains(element: ElementTree.Element) -> frozenset[int]:
    texts = [_text(child) for child in _children(element, "id")]
    if not all(text.isdecimal() for text in texts):
        raise SecurityError(f"domain {', '.join(texts)} is no number")
    return frozenset(map(int, texts))


def _validity(element: ElementTree.Element) -> Validity:
    texts = [_text(child).removesuffix("Z") for child in _exactly(element, "not_before", "not_after")]
    try:
        begin, end = (dt.datetime.strptime(text, _TIME).replace(tzinfo=dt.UTC) for text in texts)
    except ValueError as error:
        raise SecurityError(f"its validity is {' to '.join(texts)}, expected times like 2026-01-31T12:00:00") from error
    return Validity(begin, end)


def _text(element: ElementTree.Element) -> str:
    return (element.text or "").strip()


def _covered(topic: str, expressions: frozenset[str]) -> bool:
    return any(fnmatch.fnmatchcase(topic, expression) for expression in expressions)
