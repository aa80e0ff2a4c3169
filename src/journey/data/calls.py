"""Calls of tools as text, as Hermes and Qwen models write them: the chat format holds text alone.

A call is `<tool_call>` around {"name", "arguments"}, after what the assistant says; the functions that there are stand
in the system message, each a line within `<tools>`.
"""

import json
from typing import Any

from journey.data.rows import Unusable
from journey.errors import JourneyError
from journey.files import parse_json

TOOLS = """\
These functions can be called:
<tools>
{tools}
</tools>
A call is written as JSON, with the function's name and its arguments:
<tool_call>
{{"name": "...", "arguments": {{...}}}}
</tool_call>"""


def call_text(content: str, calls: list[dict[str, Any]]) -> str:
    """What the assistant says, with its calls below."""
    written = [f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>" for call in calls]
    return "\n".join([content, *written] if content else written)


def calls_of(value: Any, where: str) -> list[dict[str, Any]]:
    """OpenAI's tool_calls or its older function_call, perhaps as JSON, as [{"name", "arguments"}]; the arguments are an
    object or JSON of one. Unusable for what is none."""
    value = _parsed(value)
    found = []
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        call = item.get("function", item) if isinstance(item, dict) else {}
        call = call if isinstance(call, dict) else {}
        name, arguments = call.get("name"), _parsed(call.get("arguments", call.get("parameters")) or {})
        if not isinstance(name, str) or not name.strip() or not isinstance(arguments, dict):
            named = isinstance(name, str) and name.strip()
            what = "has arguments that are no JSON object" if named else "has no name"
            raise Unusable("malformed tool call", f"{where}: call {number} of a tool {what}")
        found.append({"name": name, "arguments": arguments})
    return found


def is_calls(text: str) -> bool:
    """Whether a text is nothing but such calls as JSON."""
    value = _parsed(text)
    some = value if isinstance(value, list) else [value]
    return bool(some) and all(isinstance(one, dict) and {"name", "arguments"} <= one.keys() for one in some)


def tools_text(value: Any, where: str) -> str:
    """What the system message says of the functions in a column, OpenAI's list of them, perhaps as JSON. Unusable for
    what is none."""
    value = _parsed(value)
    some = value if isinstance(value, list) else [value]
    lines = []
    for number, item in enumerate(some, 1):
        tool = _parsed(item)  # of lists in tables, each may be JSON
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise Unusable("malformed tools", f"{where}: tool {number} is no function with a name")
        lines.append(json.dumps({"type": "function", "function": inner}, ensure_ascii=False))
    return TOOLS.format(tools="\n".join(lines))


def _parsed(value: Any) -> Any:
    """The value of a text that is JSON; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value, "")
    except JourneyError:
        return value
