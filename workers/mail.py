"""The mail worker: the one process that knows where mail goes and makes the links in it."""

from actors import mail
from actors.settings import MailSettings
from db.core.settings import read_or_exit
from workers import main

if __name__ == "__main__":
    mail.configure(read_or_exit(MailSettings))
    main.run("mail", {"mail"})
