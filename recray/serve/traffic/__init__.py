"""Who is answered by which version, and what that shows: experiments, their guardrails, interleaved lists."""
