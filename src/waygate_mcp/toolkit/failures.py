"""What goes wrong in a plugin author's hands, in words for the author or for the model.

Knows errors that never leave the toolkit: `provider.py` turns them into replies or into errors
of `waygate_mcp.errors`. Refuses to know the errors of the house.
"""

from __future__ import annotations

__all__ = ["QuestionRefusedError", "RegistrationError", "ToolError", "unwrap"]


class RegistrationError(ValueError):
    """A tool, prompt, resource or completion cannot be registered as it is written.

    Raised while the plugin is being loaded, never during a call; the text names the mend.
    """


class ToolError(Exception):
    """Raised by a function to say what went wrong, in words for the model that called it.

    A tool answers with `isError` and this very text, nothing added and nothing hidden; prompts,
    resources and completions answer with an error that has it as its message.
    """


def unwrap(error: BaseException) -> BaseException:
    """Take an exception out of the groups around it, where each group holds but one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


class QuestionRefusedError(ToolError):
    """The client answered a question with an error instead of a result; `code` is its code.

    Not caught, it becomes the tool's failure as any ToolError does. An elicitation that the user
    declines or cancels is no error: see `Elicitation.action`.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.reason = message
        super().__init__(f"The client refused the question: {message or 'no reason given'}")
