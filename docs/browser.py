"""A headless Chromium, spoken to through its debugging pipe: no driver, no port, no package. The tests use it.

`python docs/browser.py runs/gates/report.html docs/compare` takes the pictures docs/compare_phone.png and
docs/compare_desktop.png.
"""

import base64
import io
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile

from PIL import Image

PROGRAM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
PATIENCE = 120  # seconds without a word


class Browser:
  """One page of given width in CSS pixels, as a phone or a desktop shows it; `requested`: addresses it asked for."""

  def __init__(self, width, height=900, scale=1, mobile=False):
    """Starts it."""
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    (to_browser, self._send), (self._receive, from_browser) = os.pipe(), os.pipe()

    def place():
      """The pipe's ends at the descriptors 3 and 4, where Chromium looks for them."""
      ends = [os.dup(to_browser), os.dup(from_browser)]
      for target, end in zip((3, 4), ends, strict=True):
        os.dup2(end, target)

    self._process = subprocess.Popen(
      [
        PROGRAM,
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--hide-scrollbars',
        '--no-first-run',
        '--disable-background-networking',
        f'--user-data-dir={self._profile.name}',
        '--remote-debugging-pipe',
        'about:blank',
      ],
      preexec_fn=place,
      close_fds=False,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    self._buffer, self._number, self._session = b'', 0, None
    self.requested, self._loaded = [], False
    target = self.call('Target.createTarget', url='about:blank')['targetId']
    self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Network'):
      self.call(f'{domain}.enable')
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=scale, mobile=mobile)

  def __enter__(self):
    return self

  def __exit__(self, *error):
    self._process.kill()
    self._process.wait()
    os.close(self._send)
    os.close(self._receive)
    self._profile.cleanup()

  def _read(self):
    while b'\0' not in self._buffer:
      assert select.select([self._receive], [], [], PATIENCE)[0], 'the browser does not answer'
      part = os.read(self._receive, 1 << 20)
      assert part, 'the browser has ended'
      self._buffer += part
    message, self._buffer = self._buffer.split(b'\0', 1)
    message = json.loads(message)
    if message.get('method') == 'Network.requestWillBeSent':
      self.requested.append(message['params']['request']['url'])
    self._loaded |= message.get('method') == 'Page.loadEventFired'
    return message

  def call(self, method, **parameters):
    """The result of a command of the DevTools protocol."""
    self._number += 1
    message = {'id': self._number, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._send, json.dumps(message).encode() + b'\0')
    while (answer := self._read()).get('id') != self._number:
      pass
    assert 'error' not in answer, answer
    return answer['result']

  def open(self, path):
    """Shows a file; returns when it is loaded."""
    self._loaded = False
    self.call('Page.navigate', url=path.as_uri())
    while not self._loaded:
      self._read()

  def evaluate(self, script):
    """The value of a JavaScript expression."""
    return self.call('Runtime.evaluate', expression=script, returnByValue=True)['result'].get('value')

  def screenshot(self):
    """The whole page."""
    picture = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=True)
    return Image.open(io.BytesIO(base64.b64decode(picture['data']))).convert('RGB')


def main(page, prefix):
  """Both pictures of a page, in 256 colours."""
  for name, width, scale, mobile in (('phone', 390, 1.5, True), ('desktop', 1280, 1, False)):
    with Browser(width, scale=scale, mobile=mobile) as browser:
      browser.open(pathlib.Path(page).absolute())
      browser.screenshot().quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
        f'{prefix}_{name}.png', optimize=True
      )


if __name__ == '__main__':
  main(*sys.argv[1:])
